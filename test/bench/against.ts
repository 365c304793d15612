// Two builds compared, pair by pair: one is measured right behind the other, so that what the machine does meanwhile hits
// both alike.
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { temporaryFolder } from "../harness.ts";
import type { Arguments } from "./arguments.ts";
import type { Case, Sample, Scenario } from "./case.ts";
import { format, header, median, row, valuesOf } from "./report.ts";
import { say } from "./suite.ts";
import type { Build } from "./target.ts";

const ROOT = resolve(import.meta.dir, "../..");

export interface Comparison {
  scenario: string;
  name: string;
  ours: Sample[];
  theirs: Sample[];
}

/** Metrics that are compared. */
const COMPARED: Record<string, string> = {
  rate: "per second",
  stored: "stored/s",
  fetched: "fetched/s",
  p50: "p50 ms",
  p99: "p99 ms",
  micros: "CPU µs each",
  connected: "bytes connected",
  loggedIn: "bytes logged in",
  openedMs: "all open ms",
  startMs: "start ms",
};

/** What is compared where no scenario is named. */
const BY_DEFAULT = ["one-to-one", "group", "offline"];

/** `against`: an executable or a git ref. Measures each case of the scenarios `runs` times on both builds in turn. */
export async function compareBuilds(
  ours: Build,
  against: string,
  scenarios: Scenario[],
  given: Arguments,
): Promise<Comparison[]> {
  const theirs = existsSync(against) ? { name: against, path: resolve(against) } : buildRef(against);
  const all: Comparison[] = [];
  const compared = scenarios.filter(({ name }) => given.scenarios.length > 0 || BY_DEFAULT.includes(name));
  for (const scenario of compared.filter(({ unable }) => !unable)) {
    const cases = scenario.cases(given).filter(({ limit }) => limit !== true);
    try {
      for (const each of cases) all.push(await compare(scenario.name, each, ours, theirs, given.runs));
    } finally {
      await scenario.close?.();
    }
  }
  print(all, theirs.name, given.runs);
  return all;
}

async function compare(scenario: string, each: Case, ours: Build, theirs: Build, runs: number): Promise<Comparison> {
  const result: Comparison = { scenario, name: each.name, ours: [], theirs: [] };
  const measure = async (build: Build, samples: Sample[]) => void samples.push(...(await each.measure(build, 1)));
  for (let run = 0; run < runs; run++) {
    say(`${scenario}, ${each.name}: pair ${run + 1} of ${runs}`);
    const first = () => measure(ours, result.ours);
    const second = () => measure(theirs, result.theirs);
    // Who comes first alternates too.
    for (const next of run % 2 === 0 ? [first, second] : [second, first]) await next();
  }
  return result;
}

function print(all: Comparison[], against: string, runs: number): void {
  console.log(`\nagainst ${against}: medians of ${runs} pairs, and the median of the pairs' ratios (least–greatest)\n`);
  header(["", "", "this build", "the other", "ratio"]);
  for (const { scenario, name, ours, theirs } of all)
    for (const [metric, title] of Object.entries(COMPARED)) {
      const [own, other] = [valuesOf(ours, metric), valuesOf(theirs, metric)];
      if (own.length === 0 || own.length !== other.length) continue;
      const ratios = own.map((value, i) => value / other[i]!);
      const digits = median(own) >= 1_000 ? 0 : 2;
      row([
        `${scenario}, ${name}`,
        title,
        format(median(own), digits),
        format(median(other), digits),
        `${format(median(ratios), 3)} (${format(Math.min(...ratios), 3)}–${format(Math.max(...ratios), 3)})`,
      ]);
    }
}

/** Builds what a git ref names, in a temporary clone. */
function buildRef(ref: string): Build {
  const found = Bun.spawnSync(["git", "rev-parse", "--verify", "--quiet", `${ref}^{commit}`], { cwd: ROOT });
  if (found.exitCode !== 0) throw new Error(`--against ${ref}: neither a file nor a git ref`);
  const commit = found.stdout.toString().trim();
  const clone = join(temporaryFolder(), "clone");
  say(`building ${ref} (${commit.slice(0, 7)})…`);
  run(["git", "clone", "--quiet", "--shared", "--no-checkout", ROOT, clone], ROOT);
  run(["git", "checkout", "--quiet", "--detach", commit], clone);
  // The dependencies that are installed here serve where they are the same.
  const sameLock = Bun.spawnSync(["git", "diff", "--quiet", commit, "--", "package-lock.json"], { cwd: ROOT });
  if (sameLock.exitCode === 0) run(["cp", "-a", join(ROOT, "node_modules"), clone], ROOT);
  run(["node", "build/npm.mjs", "build"], clone);
  return { name: `${ref} (${commit.slice(0, 7)})`, path: join(clone, "build/ChatServer") };
}

function run(command: string[], cwd: string): void {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd });
  if (exitCode !== 0) throw new Error(`${command.join(" ")} failed:\n${stdout}${stderr}`);
}
