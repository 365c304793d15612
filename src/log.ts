// The log: one line per event on standard output, errors and warnings on standard error; coloured on a terminal only.
import { styleText } from "node:util";
import { type ConsolaInstance, createConsola } from "consola";
import { clock } from "./protocol.ts";

const LEVELS = { error: 0, warn: 1, info: 3, debug: 4 };
const COLOURS = { error: "red", warn: "yellow", info: "green", debug: "gray" } as const;

export function createLog(level: keyof typeof LEVELS): ConsolaInstance {
  const log = createConsola({
    level: LEVELS[level],
    throttle: 0,
    reporters: [
      {
        log({ type, args, date }) {
          const stream = type === "error" || type === "warn" ? process.stderr : process.stdout;
          const word = type.toUpperCase().padEnd(5);
          const shown = stream.isTTY ? styleText(COLOURS[type as keyof typeof COLOURS] ?? "white", word) : word;
          const line = args.join(" ").replaceAll("\n", " | ");
          stream.write(`${clock(date.getTime())} ${shown} ${line}\n`);
        },
      },
    ],
  });
  // A log that nobody reads any more must not end the server.
  process.stdout.on("error", () => undefined);
  process.stderr.on("error", () => undefined);
  return log;
}
