// The table at the end, and whether all in it is as it must be.
import { BAD, type Bad, type Findings, type Ledger } from "./ledger.ts";
import type { Samples } from "./recovery.ts";
import { type Outcome, POOL } from "./soak.ts";

/** Of the 99th percentile, in milliseconds. */
const LIMITS = [
  ["instance-died", "from an instance's death to its users' chatting elsewhere", 3_000],
  ["redis-returned", "from Redis's return to live delivery between instances", 3_000],
  ["database-returned", "from the database's return to acknowledgements", 5_000],
] as const;
/** Of the 99th percentile of messages, from their acknowledgement on. */
const WITHOUT_REDIS_MS = 5_000;
const GROWTH = 0.2;

export interface Report {
  lines: string[];
  /** What is not as it must be, in words. */
  failures: string[];
}

export const number = (value: number): string => Math.round(value).toLocaleString("en");
export const row = (name: string, value: string, what = ""): string =>
  `  ${name.padEnd(34)}${value.padStart(14)}  ${what}`.trimEnd();

export function report(outcome: Outcome): Report {
  const { ledger, findings, options, seconds } = outcome;
  const failures: string[] = [];
  const lines = [
    `seed ${options.seed}, ${number(seconds)} s, ${options.instances} instances, ${options.users} users`,
    "",
    "Faults",
    ...faultLines(outcome),
    row("all", number(outcome.schedule.injected)),
    "",
    ...messageLines(ledger, outcome.store.rows, seconds),
    "",
    ...badLines(findings),
    "",
    "Recovery                              times     p50     p99     max   limit of p99, ms",
    ...LIMITS.flatMap(([mark, what, limit]) => recoveryLines(outcome, mark, what, limit, failures)),
    ...withoutRedisLines(outcome, failures),
    "",
    "Resources",
    ...memoryLines(outcome, failures),
  ];
  for (const [bad, count] of Object.entries(findings.counts)) if (count > 0) failures.push(`${bad}: ${count}`);
  const [descriptors, left] = outcome.descriptors;
  lines.push(row("descriptors", `${descriptors} → ${left}`, "of the instance that was never ended, without clients"));
  if (left > descriptors + POOL) failures.push(`descriptors: ${descriptors} → ${left}`);
  const [keys, keysLeft] = outcome.keys;
  lines.push(row("keys in Redis", `${keys} → ${keysLeft}`, "without clients"));
  if (keysLeft > keys) failures.push(`keys in Redis: ${keys} → ${keysLeft}`);
  return { lines, failures };
}

/** `rows`: stored ones. */
export const messageLines = (ledger: Ledger, rows: number, seconds: number): string[] => [
  "Messages",
  row("sent", number(ledger.sent)),
  row("acknowledged", number(ledger.acked), `${number(ledger.acked / seconds)} a second`),
  row("received", number(ledger.told), "by all devices together"),
  row("stored", number(rows), "read from the store, row by row"),
  row("came again", number(ledger.repeats), "to a program that had taken a session over, which knows what it has"),
  row("began again", number(ledger.again), "conversations of devices without `confirm`, after a server's death"),
  row("missed", number(ledger.missed), "on their way when a connection without `confirm` was lost: no promise"),
];

export const badLines = (findings: Findings): string[] => [
  "What must be 0",
  ...Object.entries(BAD).map(([bad, what]) => row(bad, number(findings.counts[bad as Bad]), what)),
];

const faultLines = ({ schedule, options }: Outcome): string[] =>
  options.faults.map((fault) => {
    const why = fault.unavailable?.() ?? null;
    return row(fault.name, why === null ? number(schedule.counts.get(fault.name) ?? 0) : "skipped", why ?? "");
  });

function recoveryLines(
  { recovery }: Outcome,
  mark: (typeof LIMITS)[number][0],
  what: string,
  limit: number,
  failures: string[],
): string[] {
  const [alone, together] = [recovery.alone[mark], recovery.together[mark]];
  const p99 = alone.quantile(0.99);
  if (p99 !== null && p99 > limit) failures.push(`${what}: p99 ${number(p99)} ms, limit ${number(limit)} ms`);
  return [
    `  ${what}`,
    `    alone                         ${cells(alone)}${number(limit).padStart(8)}`,
    `    while other faults go on      ${cells(together)}       –`,
  ];
}

/** How many there are, the median, the 99th percentile and the most. */
export const cells = (samples: Samples): string =>
  [samples.count, ...[0.5, 0.99, 1].map((share) => samples.quantile(share))]
    .map((value) => (value === null ? "–" : number(value)).padStart(8))
    .join("");

function withoutRedisLines({ recovery: { withoutRedis } }: Outcome, failures: string[]): string[] {
  const what = "from an acknowledgement to the devices of other instances, while Redis is in trouble";
  const p99 = withoutRedis.quantile(0.99);
  if (p99 !== null && p99 > WITHOUT_REDIS_MS)
    failures.push(`${what}: p99 ${number(p99)} ms, limit ${number(WITHOUT_REDIS_MS)} ms`);
  return [
    `  ${what}`,
    `    and nothing else              ${cells(withoutRedis)}${number(WITHOUT_REDIS_MS).padStart(8)}`,
  ];
}

function memoryLines({ memories }: Outcome, failures: string[]): string[] {
  const lines: string[] = [];
  const [spared] = memories;
  for (const memory of memories) {
    if (memory.span === null) continue;
    const { first, last } = memory.span;
    const what = memory === spared ? "memory of the instance never ended" : "memory of another one";
    const growth = last / first - 1;
    const percent = `${growth < 0 ? "" : "+"}${(growth * 100).toFixed(1)} %`;
    lines.push(row(what, `${number(first)} → ${number(last)}`, `MiB, ${percent}, highest ${number(memory.highest)}`));
    // The others are younger: their first minutes are still warming up.
    if (memory === spared && growth > GROWTH) failures.push(`${what}: ${percent}`);
  }
  return lines;
}
