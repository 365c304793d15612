// How commands report on long work: by a line that is rewritten on a terminal, by one every few seconds elsewhere.

const TERMINAL_MS = 250;
const FILE_MS = 5_000;

export const say = (line: string): boolean => process.stdout.write(`${line}\n`);

export const grouped = (count: number): string => count.toLocaleString("en-US");

export class Progress {
  private readonly startedAt = performance.now();
  private saidAt = this.startedAt;
  private readonly first: number;

  constructor(
    private readonly what: string,
    private readonly total: number,
    private done = 0,
  ) {
    this.first = done;
  }

  advance(count: number): void {
    this.done += count;
    const now = performance.now();
    if (now - this.saidAt < (process.stdout.isTTY ? TERMINAL_MS : FILE_MS)) return;
    this.saidAt = now;
    const share = this.total === 0 ? 100 : Math.floor((100 * this.done) / this.total);
    const rate = Math.round((this.done - this.first) / ((now - this.startedAt) / 1000));
    this.show(`${grouped(this.done)} of ${grouped(this.total)} (${share} %), ${grouped(rate)}/s`);
  }

  /** Prints the final line. */
  end(result: string): void {
    process.stdout.write(`${process.stdout.isTTY ? "\r\x1b[K" : ""}${this.what}: ${result}\n`);
  }

  private show(state: string): void {
    process.stdout.write(process.stdout.isTTY ? `\r\x1b[K${this.what}: ${state}` : `${this.what}: ${state}\n`);
  }
}
