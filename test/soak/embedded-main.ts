// npm run soak -- --embedded: what it may be told, and its table at the end.
import { parseArgs } from "node:util";
import { type EmbeddedOptions, type EmbeddedOutcome, runEmbedded } from "./embedded.ts";
import type { Samples } from "./recovery.ts";
import { badLines, cells, messageLines, number, row } from "./report.ts";

const USAGE = `npm run soak -- --embedded [--kills 200] [--seed N] [--rate 1500] [--settle 150] [--faults NAME,…]
--rate: messages per second. --settle: seconds under load at the end, without kills, to measure memory.
--faults: those whose names contain one of these; those that end no process do not count as kills.`;

const text = (value: string) => ({ type: "string", default: value }) as const;

function readOptions(args: string[]): EmbeddedOptions {
  const { values } = parseArgs({
    args,
    options: {
      embedded: { type: "boolean" },
      kills: text("200"),
      seed: text(String(1 + Math.floor(Math.random() * 999_999))),
      rate: text("1500"),
      settle: text("150"),
      faults: text(""),
    },
  });
  const positive = (value: string): number => {
    if (!(Number(value) > 0 && Number(value) < 1e9)) throw new Error(`${value}: a number above 0 is needed`);
    return Number(value);
  };
  return {
    kills: positive(values.kills),
    seed: positive(values.seed),
    rate: positive(values.rate),
    longestMs: 8_000,
    settleMs: positive(values.settle) * 1_000,
    only: values.faults === "" ? [] : values.faults.split(","),
    say: (line) => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`),
  };
}

/** Resolves with the exit code: 0 where everything held, 1 where something did not, 2 where the arguments are wrong. */
export async function soakEmbedded(args: string[]): Promise<number> {
  let options: EmbeddedOptions;
  try {
    options = readOptions(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    return 2;
  }
  console.log(`seed ${options.seed}: the same again with --seed ${options.seed}`);
  const outcome = await runEmbedded(options);
  console.log(`\n${embeddedReport(options, outcome).join("\n")}\n`);
  const bad = [...outcome.ledger.findings.examples, ...outcome.unhealthy];
  for (const line of bad) console.log(line);
  console.log(bad.length === 0 ? "everything held" : "NOT HELD");
  return bad.length === 0 ? 0 : 1;
}

export function embeddedReport(options: EmbeddedOptions, outcome: EmbeddedOutcome): string[] {
  const { ledger, server, waits, checks, memoryMiB, descriptors, seconds } = outcome;
  const counts = [...outcome.injected.values()].filter((count) => typeof count === "number");
  const journalled = checks.filter((check) => check.journalled > 0).length;
  const last = checks.at(-1)!;
  return [
    `seed ${options.seed}, ${number(seconds)} s, one server on its embedded database`,
    "",
    "Faults",
    ...[...outcome.injected].map(([name, count]) =>
      typeof count === "number" ? row(name, number(count)) : row(name, "not possible", count),
    ),
    row("all", number(counts.reduce((sum, count) => sum + count, 0))),
    row("processes killed (kill -9)", number(server.kills)),
    "",
    ...messageLines(ledger, last.rows, seconds),
    "",
    ...badLines(ledger.findings),
    row("other", number(outcome.unhealthy.length), "readers not served, wrong exits, damage, growth: told below"),
    "",
    `${"Waits, ms".padEnd(57)}times     p50     p99     max`,
    waitRow("start, from the process to readiness", server.starts),
    ...Object.entries(waits.waits).map(([wait, samples]) => waitRow(`${wait} to the first acknowledgement`, samples)),
    "",
    "Store and process",
    row("read and compared", number(checks.length), `times, ${journalled} of them with rows in the journal alone`),
    row("PRAGMA integrity_check", checks.every(({ verdict }) => verdict === "ok") ? "ok" : "DAMAGED", "each time"),
    row("database", number(last.bytes / 2 ** 20), "MiB in the end"),
    row("memory, last server, under load", `${memoryMiB[0]} → ${memoryMiB[1]}`, "MiB, after a minute and in the end"),
    row("descriptors", `${descriptors[0]} → ${descriptors[1]}`, "without clients, at the start and in the end"),
    row("lines logged of a store in trouble", number(server.complaints), "in one second, at most"),
  ];
}

const waitRow = (name: string, samples: Samples): string => `  ${name.padEnd(52)}${cells(samples)}`;
