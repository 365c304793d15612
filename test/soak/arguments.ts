// What `npm run soak -- …` may be told.
import { parseArgs } from "node:util";
import type { Fault } from "./fault.ts";
import { FAULTS } from "./faults.ts";
import type { SoakOptions } from "./soak.ts";

const USAGE = `npm run soak -- [--minutes 30] [--seed N] [--users 32] [--rate 1000] [--instances 3] [--faults NAME,…|none]
  [--together] [--rest 90] [--log FOLDER]
--rate: messages per second. --faults: those whose names contain one of these. --together: never one fault alone.
--rest: seconds to wait at the end for missing messages.
--log: folder for a timeline and the servers' logs.
See also: npm run soak -- --embedded, npm run soak -- --mutations`;

const text = (value: string) => ({ type: "string", default: value }) as const;

/** Ends the process where they are wrong. */
export function readArguments(): SoakOptions {
  try {
    const { values } = parseArgs({
      options: {
        minutes: text("30"),
        seed: text(String(1 + Math.floor(Math.random() * 999_999))),
        users: text("32"),
        rate: text("1000"),
        instances: text("3"),
        faults: text(""),
        rest: text("90"),
        together: { type: "boolean", default: false },
        log: { type: "string" },
      },
    });
    return {
      seed: positive(values.seed),
      ms: positive(values.minutes) * 60_000,
      users: positive(values.users),
      rate: positive(values.rate),
      instances: positive(values.instances),
      faults: chosen(values.faults),
      crowded: values.together ? 1 : 0,
      longestMs: 20_000,
      restMs: positive(values.rest) * 1_000,
      log: values.log ?? null,
      tell: (line) => console.log(line),
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exit(2);
  }
}

function positive(value: string): number {
  const number = Number(value);
  if (!(number > 0 && number < 1e9)) throw new Error(`${value}: a number above 0 is needed`);
  return number;
}

function chosen(names: string): Fault[] {
  if (names === "none") return [];
  const wanted = names.split(",");
  const faults = FAULTS.filter(({ name }) => wanted.some((each) => name.includes(each)));
  if (faults.length === 0)
    throw new Error(`${names}: no fault is called so; there are ${FAULTS.map(({ name }) => name).join(", ")}`);
  return faults;
}
