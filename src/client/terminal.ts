// Line editing on a terminal: output appears above the line being typed, which stays as it is.
import { clearScreenDown, createInterface, cursorTo, type Interface, moveCursor } from "node:readline";
import { Transform, Writable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";

export interface TerminalEvents {
  onLine(line: string): void;
  /** Ctrl-D or Ctrl-C on an empty line. */
  onEnd(): void;
  /** The terminal is gone: nothing can be shown any more. */
  onLost(): void;
}

/** The terminal knows no control sequences, not even one to erase a line. */
const IS_DUMB = process.env.TERM === "dumb";

/** hidden: the answer is neither shown nor kept. unforeseen: text typed before the question appears does not answer it. */
export type Manner = "hidden" | "unforeseen";

/** A question being asked on the line, with the callback for its answer. */
interface Question {
  prompt: string;
  /** Input is not echoed. */
  hidden: boolean;
  answer(text: string | null): void;
}

export class Terminal {
  private readonly line: Interface & { history?: string[]; prevRows?: number };
  private question: Question | null = null;
  private prompt = "> ";
  private unprinted: string[] = [];
  private closed = false;

  constructor(private readonly events: TerminalEvents) {
    this.line = createInterface({
      input: process.stdin.pipe(makeInput(() => this.countRows())),
      output: this.makeOutput(),
      terminal: true,
      historySize: 500,
    });
    this.line.on("line", (text) => this.take(text));
    this.line.on("SIGINT", () => this.interrupt());
    this.line.on("SIGTSTP", () => this.suspend());
    this.line.on("close", () => {
      if (this.closed) return;
      process.stdout.write("\n");
      this.end();
      this.events.onEnd();
    });
    const lose = () => {
      this.end();
      this.events.onLost();
    };
    for (const each of [this.line, process.stdin, process.stdout]) each.on("error", lose);
  }

  /** Prints lines. Those of one turn of the loop appear together. */
  print(...lines: string[]): void {
    if (this.unprinted.length === 0) setImmediate(() => this.flush());
    this.unprinted.push(...lines);
  }

  setPrompt(prompt: string): void {
    this.prompt = prompt;
    if (!this.closed) this.erase();
    this.show();
  }

  /** Removes a line from the history: it was an answer to a question. */
  forget(line: string): void {
    const { history } = this.line;
    const at = history?.indexOf(line) ?? -1;
    if (at >= 0) history!.splice(at, 1);
  }

  /** Asks on the line; null if interrupted. */
  async ask(prompt: string, manner?: Manner): Promise<string | null> {
    this.flush();
    const { promise, resolve } = Promise.withResolvers<string | null>();
    if (this.closed) return null;
    const typed = manner === "unforeseen" ? this.line.line : "";
    if (typed !== "") this.clearLine();
    this.question = { prompt, hidden: manner === "hidden", answer: resolve };
    this.show();
    const answer = await promise;
    this.question = null;
    this.show();
    // The line typed so far is continued.
    if (typed !== "" && !this.closed) this.line.write(typed);
    return answer;
  }

  close(): void {
    this.flush();
    if (this.closed) return;
    this.closed = true;
    this.erase();
    this.line.close();
  }

  private end(): void {
    this.closed = true;
    this.question?.answer(null);
  }

  private take(text: string): void {
    const { question } = this;
    if (question === null) {
      this.events.onLine(text);
      return this.show();
    }
    if (question.hidden) process.stdout.write("\n");
    // The history is for commands, not for passwords or names.
    this.line.history?.shift();
    question.answer(text);
  }

  private interrupt(): void {
    const { question } = this;
    if (question !== null) {
      this.clearLine();
      process.stdout.write("\n");
      question.answer(null);
    } else if (this.line.line !== "") {
      this.clearLine();
      this.show();
    } else this.line.close();
  }

  /** Ctrl-Z. Resumes when the shell continues the process; at once where no shell could: the signal has no effect there. */
  private suspend(): void {
    this.erase();
    process.stdin.setRawMode(false);
    process.kill(process.pid, "SIGTSTP");
    setImmediate(() => {
      if (this.closed) return;
      process.stdin.setRawMode(true);
      this.show();
    });
  }

  /** readline does not count the rows of pasted text: its next redraw would leave the first ones on the screen. */
  private countRows(): void {
    this.line.prevRows = this.line.getCursorPos().rows;
  }

  private clearLine(): void {
    // Ctrl-E and Ctrl-U.
    this.line.write(null, { ctrl: true, name: "e" });
    this.line.write(null, { ctrl: true, name: "u" });
  }

  private flush(): void {
    const lines = this.unprinted;
    this.unprinted = [];
    if (lines.length === 0) return;
    if (!this.closed) this.erase();
    process.stdout.write(`${lines.join("\n")}\n`);
    this.show();
  }

  /** Removes the line being typed, with its prompt, from the screen. */
  private erase(): void {
    if (IS_DUMB) return void process.stdout.write("\n");
    const { rows } = this.line.getCursorPos();
    const hidden = this.question?.hidden === true;
    if (rows > 0 && !hidden) moveCursor(process.stdout, 0, -rows);
    cursorTo(process.stdout, 0);
    clearScreenDown(process.stdout);
  }

  /** Shows the line being typed; the cursor must be in an empty row. */
  private show(): void {
    if (this.closed) return;
    const { question } = this;
    if (question?.hidden) {
      if (!IS_DUMB) cursorTo(process.stdout, 0);
      if (!IS_DUMB) clearScreenDown(process.stdout);
      process.stdout.write(question.prompt);
      return;
    }
    this.line.setPrompt(question?.prompt ?? this.prompt);
    // Otherwise readline moves up by the number of rows that the line occupied before.
    this.line.prevRows = 0;
    this.line.prompt(true);
    // On a dumb terminal readline does not show what has been typed so far.
    if (IS_DUMB) process.stdout.write(this.line.line);
  }

  /** Standard output, except for the echo of hidden answers. */
  private makeOutput(): Writable {
    const output = new Writable({
      decodeStrings: false,
      write: (chunk, _encoding, done) => {
        if (this.question?.hidden !== true) process.stdout.write(chunk);
        done();
      },
    });
    // readline uses these to know where a long line wraps.
    Object.defineProperties(output, {
      columns: { get: () => process.stdout.columns },
      isTTY: { value: true },
    });
    process.stdout.on("resize", () => output.emit("resize"));
    return output;
  }
}

/**
 * Standard input, one line per turn of the loop: a pasted line may answer a hidden question raised by the line before
 * it, and readline echoes at once what it is given. The last byte of pasted text gets a turn of its own, too, because
 * readline may redraw the line for it. `onTaken` is called after each turn.
 */
function makeInput(onTaken: () => void): Transform {
  const input = new Transform({
    transform: async (chunk: Buffer, _encoding, done) => {
      for (const line of chunk.toString("latin1").split(/(?<=\n|\r(?!\n))|(?=[^\n]$)(?<=^[\s\x20-\xff]+)/)) {
        input.push(line, "latin1");
        await nextTurn();
        onTaken();
      }
      done();
    },
  });
  return Object.assign(input, { setRawMode: (isRaw: boolean) => process.stdin.setRawMode(isRaw) });
}
