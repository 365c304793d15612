// Runs scenarios on one build, and collects what they give.
import type { Arguments } from "./arguments.ts";
import type { Case, Scenario } from "./case.ts";
import { printScenario, type Result } from "./report.ts";
import type { Build } from "./target.ts";

/** The chosen ones, or all but those on request. */
export const chosen = (scenarios: Scenario[], { scenarios: names }: Arguments): Scenario[] =>
  scenarios.filter(({ name, onRequest }) => (names.length > 0 ? names.includes(name) : onRequest !== true));

/** Tells on standard error what is going on; the tables are standard output's. */
export const say = (text: string): void => void process.stderr.write(`${text}\n`);

export async function runSuite(build: Build, scenarios: Scenario[], given: Arguments): Promise<Result[]> {
  const all: Result[] = [];
  for (const scenario of scenarios) {
    if (scenario.unable) {
      console.log(`\n${scenario.name}: left out, ${scenario.unable}`);
      continue;
    }
    const results = await runScenario(build, scenario, given);
    printScenario(scenario.about, results);
    all.push(...results);
  }
  return all;
}

/** The cases take turns, so that what the machine does meanwhile hits them alike. */
async function runScenario(build: Build, scenario: Scenario, given: Arguments): Promise<Result[]> {
  const cases = scenario.cases(given);
  const results = cases.map(
    ({ name, limit = false }): Result => ({ scenario: scenario.name, name, limit, samples: [], error: null }),
  );
  try {
    for (let run = 0; run < given.runs; run++)
      for (const [i, each] of cases.entries()) await measure(build, each, results[i]!, run, given.runs);
  } finally {
    await scenario.close?.();
  }
  return results;
}

async function measure(build: Build, each: Case, result: Result, run: number, runs: number): Promise<void> {
  if (result.error !== null || (each.dear && run > 0)) return;
  say(`${result.scenario}, ${each.name}${each.dear ? "" : `: ${run + 1} of ${runs}`}`);
  try {
    result.samples.push(...(await each.measure(build, each.dear ? runs : 1)));
  } catch (error) {
    result.error = (error as Error).message;
    say(`failed: ${(error as Error).stack}`);
  }
}
