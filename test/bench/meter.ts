// How much processor time and memory processes take, this one among them.
import { readFileSync } from "node:fs";

/** Seconds of processor time that a process has used, all of its threads together. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export const residentMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;

const SETTLE_STEP_MS = 250;
const SETTLE_MS = 5_000;
/** What may change in a step of memory that has settled. */
const SETTLED_MIB = 0.1;

/** Resident memory once it grows and shrinks no more, or after 5 seconds. */
export async function settledMiB(pid: number): Promise<number> {
  let last = residentMiB(pid);
  let same = 0;
  for (const end = performance.now() + SETTLE_MS; same < 4 && performance.now() < end; ) {
    await Bun.sleep(SETTLE_STEP_MS);
    const now = residentMiB(pid);
    same = Math.abs(now - last) < SETTLED_MIB ? same + 1 : 0;
    last = now;
  }
  return last;
}

/** Measures between `start` and `stop`. */
export class Meter {
  /** By process: shares of one core. */
  cores: number[] = [];
  seconds = 0;
  private before: number[] = [];
  private startedAt = 0;

  constructor(readonly pids: number[]) {}

  start(): void {
    this.startedAt = performance.now();
    this.before = this.pids.map(cpuSeconds);
  }

  stop(): void {
    this.seconds = (performance.now() - this.startedAt) / 1000;
    this.cores = this.pids.map((pid, i) => (cpuSeconds(pid) - this.before[i]!) / this.seconds);
  }
}
