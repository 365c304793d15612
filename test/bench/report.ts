// Printed tables: what was measured, case by case, and at the end beside what is wanted.
import type { Sample } from "./case.ts";
import { GOALS, type Goal } from "./goals.ts";

/** What one case of a scenario gave. */
export interface Result {
  scenario: string;
  name: string;
  limit: boolean;
  samples: Sample[];
  /** Why it failed. */
  error: string | null;
}

/** Metrics in the order of the columns: title, and digits behind the point. */
const METRICS: Record<string, [title: string, digits: number]> = {
  capacity: ["capacity/s", 0],
  due: ["offered/s", 0],
  rate: ["per second", 0],
  goodput: ["% of capacity", 0],
  stored: ["stored/s", 0],
  fetched: ["fetched/s", 0],
  acked: ["acked/s", 0],
  lost: ["lost", 0],
  refused: ["refused", 0],
  p50: ["p50 ms", 2],
  p99: ["p99 ms", 2],
  p999: ["p99.9 ms", 2],
  recovery: ["recovered after s", 2],
  quietP99: ["quiet p99 before", 2],
  afterP99: ["and right after", 2],
  stoppedP50: ["one stopped: p50", 2],
  stoppedP99: ["p99", 2],
  stoppedP999: ["p99.9", 2],
  moved: ["p99 moved by %", 0],
  grownMib: ["MiB more", 0],
  micros: ["CPU µs each", 2],
  "server cores": ["cores: server", 2],
  "senders' instance cores": ["cores: senders' instance", 2],
  "receivers' instance cores": ["receivers'", 2],
  "MariaDB cores": ["MariaDB", 2],
  "Redis cores": ["Redis", 2],
  "load cores": ["load", 2],
  loginMs: ["log-in ms", 1],
  firstMs: ["first message ms", 1],
  startMs: ["start ms", 0],
  killedMs: ["start after kill -9 ms", 0],
  openedMs: ["all open ms", 0],
  servedMs: ["all served ms", 0],
  connected: ["bytes connected", 0],
  loggedIn: ["bytes logged in", 0],
  earlyMib: ["MiB at 10 %", 1],
  halfMib: ["at 50 %", 1],
  mib: ["MiB", 0],
};
/** Metrics of which the least and the greatest are shown too. */
const SPREAD = ["rate", "stored", "fetched"];

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export const row = (cells: (string | number)[]): void => console.log(`| ${cells.join(" | ")} |`);

export function header(cells: string[]): void {
  row(cells);
  row(cells.map(() => "---"));
}

const digitsOf = (metric: string): number => METRICS[metric]?.[1] ?? 2;

export const format = (value: number, digits: number): string =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A metric's values; empty where it was not measured. */
export const valuesOf = (samples: Sample[], metric: string): number[] =>
  samples.flatMap((sample) => (sample[metric] === undefined ? [] : [sample[metric]]));

function cell(samples: Sample[], metric: string): string {
  const values = valuesOf(samples, metric);
  if (values.length === 0) return "";
  const digits = digitsOf(metric);
  const middle = format(median(values), digits);
  if (values.length === 1 || !SPREAD.includes(metric)) return middle;
  return `${middle} (${format(Math.min(...values), digits)}–${format(Math.max(...values), digits)})`;
}

/** The table of one scenario. */
export function printScenario(about: string, results: Result[]): void {
  console.log(`\n${results[0]?.scenario}: ${about}\n`);
  const all = results.flatMap(({ samples }) => samples);
  const metrics = Object.keys(METRICS).filter((metric) => valuesOf(all, metric).length > 0);
  header(["", ...metrics.map((metric) => METRICS[metric]![0])]);
  for (const { name, samples, error } of results)
    if (error === null) row([name, ...metrics.map((metric) => cell(samples, metric))]);
    else row([name, `failed: ${error.replaceAll("\n", " ")}`]);
}

/** The bound, and whether `value` keeps it. */
function judge({ atLeast, atMost }: Goal, value: number, digits: number): [wanted: string, verdict: string] {
  if (atLeast !== undefined) return [`≥ ${format(atLeast, digits)}`, value >= atLeast ? "met" : "missed"];
  if (atMost !== undefined) return [`≤ ${format(atMost, digits)}`, value <= atMost ? "met" : "missed"];
  return ["", ""];
}

/** Everything that is wanted of what was measured, beside the limits and the C++ predecessor. */
export function printGoals(results: Result[]): void {
  console.log("\nbeside what is wanted, and what the C++ predecessor did on such a machine\n");
  header(["", "measured", "wanted", "", "limit measured here", "predecessor"]);
  for (const goal of GOALS) {
    const { scenario, name, metric, beside, predecessor = "" } = goal;
    const find = (wanted: string) =>
      results.find((each) => each.scenario === scenario && each.name === wanted && each.samples.length > 0);
    const found = find(name);
    const values = valuesOf(found?.samples ?? [], metric);
    if (values.length === 0) continue;
    const digits = digitsOf(metric);
    const bound = beside === undefined ? [] : valuesOf(find(beside)?.samples ?? [], metric);
    row([
      `${scenario}, ${name}: ${METRICS[metric]![0]}`,
      format(median(values), digits),
      ...judge(goal, median(values), digits),
      bound.length === 0 ? "" : `${format(median(bound), digits)} (${beside})`,
      predecessor,
    ]);
  }
}
