// The log: one line per event on standard output, errors and warnings on standard error; coloured only on a terminal.
import { styleText } from "node:util";
import { type ConsolaInstance, createConsola } from "consola";
import { clock } from "./protocol.ts";

const LEVELS = { error: 0, warn: 1, info: 3, debug: 4 };
const COLOURS = { error: "red", warn: "yellow", info: "green", debug: "gray" } as const;
/** Characters that may wait for a slow reader of the log; beyond that lines are counted and dropped. */
const MAX_WAITING = 1_048_576;

export function createLog(level: keyof typeof LEVELS): ConsolaInstance {
  const output = new LogStream(process.stdout);
  const errors = new LogStream(process.stderr);
  return createConsola({
    level: LEVELS[level],
    throttle: 0,
    reporters: [
      {
        log({ type, args, date }) {
          const stream = type === "error" || type === "warn" ? errors : output;
          stream.write(date.getTime(), type, args.join(" ").replaceAll("\n", " | "));
        },
      },
    ],
  });
}

/** One of the process's outputs. It never blocks; the runtime would buffer without limit what nobody reads. */
class LogStream {
  private waiting = 0;
  private dropped = 0;

  constructor(private readonly stream: NodeJS.WriteStream) {
    // Neither a reader that is gone nor a full disk may end the server.
    stream.on("error", () => undefined);
  }

  write(time: number, type: string, text: string): void {
    if (this.waiting > MAX_WAITING) {
      this.dropped++;
      return;
    }
    if (this.dropped > 0)
      this.send(time, "warn", `${this.dropped} lines dropped here: the log is not read fast enough`);
    this.dropped = 0;
    this.send(time, type, text);
  }

  private send(time: number, type: string, text: string): void {
    const word = type.toUpperCase().padEnd(5);
    const shown = this.stream.isTTY ? styleText(COLOURS[type as keyof typeof COLOURS] ?? "white", word) : word;
    const line = `${clock(time)} ${shown} ${text}\n`;
    this.waiting += line.length;
    this.stream.write(line, () => {
      this.waiting -= line.length;
    });
  }
}
