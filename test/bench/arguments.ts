// What `npm run bench -- …` may be told.
import { parseArgs } from "node:util";

export interface Arguments {
  /** By name; empty: all but those on request. */
  scenarios: string[];
  /** Measurements of each case, of which medians are printed. */
  runs: number;
  /** Of one measurement, and before it. */
  seconds: number;
  warmUpSeconds: number;
  pairs: number;
  textBytes: number;
  /** Unacknowledged messages of one sender. */
  windows: number[];
  /** Messages a second of the open loop. */
  rates: number[];
  groupWindow: number;
  /** Growing: users online, members of a group, messages stored, messages that wait for one user. */
  users: number[];
  groups: number[];
  history: number[];
  backlog: number[];
  /** Idle ones. */
  connections: number;
  /** Of the scenario that watches memory. */
  minutes: number;
  /** A git ref or an executable that this build, or `binary`, is compared with. */
  against: string | null;
  binary: string | null;
  json: string | null;
  /** A folder for the plots. */
  plot: string | null;
}

const USAGE = `npm run bench -- [options] [scenario …]

  --quick                short measurements and small sizes: checks that everything works; its figures mean nothing
  --runs 3               measurements of each case; prints medians, with the lowest and highest rate
  --seconds 2            length of one measurement
  --warm-up 1            seconds before each measurement
  --pairs 50             senders, each with its own receiver
  --text 64              bytes per message text
  --window 1,16,64       unacknowledged messages per sender, one row each
  --rates 1k,5k,10k,20k,40k,50k    messages per second in the open loop
  --group-window 16      unacknowledged messages per sender in a group
  --users 100,1k,10k     growing number of online users
  --groups 10,100,1k,5k  growing number of group members
  --history 0,100k,1m    growing number of stored messages (up to 10m: about 2 minutes more)
  --backlog 0,10k,100k   growing number of messages waiting for one user (up to 1m: a minute more)
  --connections 5k       idle connections
  --minutes 60           runs the scenario "memory" for this long
  --cluster              runs only the scenario "cluster"
  --against REF|FILE     compares in turns with the build of a git ref, or with an executable
                         (by default in the scenarios one-to-one, group and offline)
  --binary FILE          the executable to measure instead of build/ChatServer
  --json FILE            writes all measurements
  --plot FOLDER          writes latency over load and throughput over window as SVG (by gnuplot)
  --help

scenarios:
`;

const QUICK = {
  runs: "1",
  seconds: "1",
  "warm-up": "0.3",
  users: "100,1k",
  groups: "10,100,1k",
  history: "0,50k",
  backlog: "0,10k",
};

const text = { type: "string" } as const;
const flag = { type: "boolean", default: false } as const;

/** `scenarios`: their names with a line about each. Ends the process where the arguments are wrong, and behind the help. */
export function readArguments(scenarios: Record<string, string>): Arguments {
  try {
    return read(Object.keys(scenarios), () => {
      const lines = Object.entries(scenarios).map(([name, about]) => `  ${name.padEnd(22)} ${about}`);
      console.log(USAGE + lines.join("\n"));
      process.exit(0);
    });
  } catch (error) {
    console.error(`${(error as Error).message}\nnpm run bench -- --help lists the options`);
    process.exit(2);
  }
}

function read(known: string[], help: () => never): Arguments {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      help: flag,
      quick: flag,
      cluster: flag,
      runs: text,
      seconds: text,
      "warm-up": text,
      pairs: text,
      text,
      window: text,
      rates: text,
      "group-window": text,
      users: text,
      groups: text,
      history: text,
      backlog: text,
      connections: text,
      minutes: text,
      against: text,
      binary: text,
      json: text,
      plot: text,
    },
  });
  if (values.help) help();
  const given = { ...(values.quick ? QUICK : {}), ...values };
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`there is no scenario ${unknown}`);
  const scenarios = [...positionals, ...(values.cluster ? ["cluster"] : []), ...(values.minutes ? ["memory"] : [])];
  return {
    scenarios: [...new Set(scenarios)],
    runs: count(given.runs ?? "3"),
    seconds: number(given.seconds ?? "2", 0.1),
    warmUpSeconds: number(given["warm-up"] ?? "1", 0),
    pairs: count(given.pairs ?? "50"),
    textBytes: count(given.text ?? "64"),
    windows: counts(given.window ?? "1,16,64"),
    rates: counts(given.rates ?? "1k,5k,10k,20k,40k,50k"),
    groupWindow: count(given["group-window"] ?? "16"),
    users: counts(given.users ?? "100,1k,10k"),
    groups: counts(given.groups ?? "10,100,1k,5k"),
    history: counts(given.history ?? "0,100k,1m", 0),
    backlog: counts(given.backlog ?? "0,10k,100k", 0),
    connections: count(given.connections ?? "5k"),
    minutes: number(given.minutes ?? "60", 0.1),
    against: given.against ?? null,
    binary: given.binary ?? null,
    json: given.json ?? null,
    plot: given.plot ?? null,
  };
}

function number(value: string, least: number): number {
  const parsed = Number(value);
  if (value === "" || !Number.isFinite(parsed) || parsed < least)
    throw new Error(`${value}: a number from ${least} on is needed`);
  return parsed;
}

const UNITS: Record<string, number> = { k: 1_000, m: 1_000_000 };

/** A whole number, which may be written as 10k or 1m. */
function count(value: string, least = 1): number {
  const unit = UNITS[value.slice(-1)];
  const parsed = number(unit === undefined ? value : value.slice(0, -1), 0) * (unit ?? 1);
  if (!Number.isSafeInteger(parsed) || parsed < least)
    throw new Error(`${value}: a whole number from ${least} on is needed`);
  return parsed;
}

const counts = (list: string, least = 1): number[] => list.split(",").map((each) => count(each, least));
