// What `npm run bench -- …` may be told.
import { parseArgs } from "node:util";

export interface Arguments {
  /** Two instances on MariaDB and Redis, in place of the embedded server beside a bare relay. */
  cluster: boolean;
  /** Measurements of each kind, of which the median is printed. */
  runs: number;
  /** Of one measurement. */
  seconds: number;
  pairs: number;
  textBytes: number;
  /** Unacknowledged messages of one sender, a row of the table each. */
  windows: number[];
  /** Members of the groups, a row each. */
  groups: number[];
  groupWindow: number;
}

const USAGE =
  "npm run bench -- [--cluster] [--runs 3] [--seconds 3] [--pairs 50] [--text 64] [--window 1,16,64|none] [--groups 100,1000|none] [--group-window 16]";

const text = (value: string) => ({ type: "string", default: value }) as const;

/** Ends the process where they are wrong. */
export function readArguments(): Arguments {
  try {
    const { values } = parseArgs({
      options: {
        cluster: { type: "boolean", default: false },
        runs: text("3"),
        seconds: text("3"),
        pairs: text("50"),
        text: text("64"),
        window: text("1,16,64"),
        groups: text("100,1000"),
        "group-window": text("16"),
      },
    });
    return {
      cluster: values.cluster,
      runs: count(values.runs),
      seconds: count(values.seconds),
      pairs: count(values.pairs),
      textBytes: count(values.text),
      windows: counts(values.window),
      groups: counts(values.groups),
      groupWindow: count(values["group-window"]),
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exit(2);
  }
}

function count(value: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 1) throw new Error(`${value}: a number from 1 on is needed`);
  return number;
}

const counts = (list: string): number[] => (list === "none" ? [] : list.split(",").map(count));
