// npm run bench: the compiled server over loopback, driven from this process. Every message is stored with fsync and
// acknowledged, and it is an error when one is lost, doubled or out of order.
import { constants, copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CHAT_SERVER, temporaryFolder } from "../harness.ts";
import { compareBuilds } from "./against.ts";
import { readArguments } from "./arguments.ts";
import { describeMachine, lineOf } from "./machine.ts";
import { needGnuplot, plot } from "./plot.ts";
import { printGoals } from "./report.ts";
import { SCENARIOS } from "./scenarios.ts";
import { chosen, runSuite } from "./suite.ts";

// What was started ends with this process, however that ends.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

const given = readArguments(
  Object.fromEntries(
    SCENARIOS.map(({ name, about, onRequest }) => [name, onRequest ? `${about} (only by name)` : about]),
  ),
);
try {
  await bench();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
// Nothing that the load left behind keeps the process.
process.exit();

async function bench(): Promise<void> {
  // Not at the end of ten minutes.
  if (given.plot !== null) needGnuplot();
  const machine = describeMachine();
  const scenarios = chosen(SCENARIOS, given);
  // A copy: it may be built anew meanwhile.
  const build = { name: given.binary ?? "this", path: join(temporaryFolder(), "ChatServer") };
  copyFileSync(given.binary ?? CHAT_SERVER, build.path, constants.COPYFILE_FICLONE);
  const version = Bun.spawnSync([build.path, "--version"]).stdout.toString().trim();
  console.log(`${version} on ${lineOf(machine)}
${given.pairs} pairs, ${given.textBytes}-byte texts, medians of ${given.runs} runs of ${given.seconds} s (least–greatest); whatever is lost, doubled or out of order fails a case`);

  if (given.against !== null)
    return save({ version, machine, results: await compareBuilds(build, given.against, scenarios, given) });
  const results = await runSuite(build, scenarios, given);
  printGoals(results);
  save({ version, machine, results });
  if (given.plot !== null) plot(results, given.plot);
  if (results.some(({ error }) => error !== null)) process.exitCode = 1;
}

function save(measured: object): void {
  if (given.json === null) return;
  writeFileSync(given.json, `${JSON.stringify({ at: new Date().toISOString(), given, ...measured }, null, 1)}\n`);
}
