// npm run bench: the compiled server over loopback, driven from this process. Every message is stored with fsync and
// acknowledged, and it is an error when one is lost, doubled or out of order.
import { constants, copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CHAT_SERVER, temporaryFolder } from "../harness.ts";
import { compareBuilds } from "./against.ts";
import { readArguments } from "./arguments.ts";
import { describeMachine, lineOf } from "./machine.ts";
import { plot } from "./plot.ts";
import { printGoals } from "./report.ts";
import { SCENARIOS } from "./scenarios.ts";
import { chosen, runSuite } from "./suite.ts";

// What was started ends with this process, however that ends.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

const given = readArguments(Object.fromEntries(SCENARIOS.map(({ name, about }) => [name, about])));
const machine = describeMachine();
const scenarios = chosen(SCENARIOS, given);
// A copy: it may be built anew meanwhile.
const build = { name: given.binary ?? "this", path: join(temporaryFolder(), "ChatServer") };
copyFileSync(given.binary ?? CHAT_SERVER, build.path, constants.COPYFILE_FICLONE);
console.log(
  `${lineOf(machine)}\n${given.pairs} pairs, ${given.textBytes}-byte texts, medians of ${given.runs} runs of ${given.seconds} s (least–greatest); whatever is lost, doubled or out of order fails a case`,
);

if (given.against !== null) {
  const results = await compareBuilds(build, given.against, scenarios, given);
  save(results);
} else {
  const results = await runSuite(build, scenarios, given);
  printGoals(results);
  if (given.plot !== null) plot(results, given.plot);
  save(results);
  if (results.some(({ error }) => error !== null)) process.exitCode = 1;
}
// Nothing that the load left behind keeps the process.
process.exit();

function save(results: unknown): void {
  if (given.json === null) return;
  writeFileSync(given.json, `${JSON.stringify({ at: new Date().toISOString(), machine, given, results }, null, 1)}\n`);
}
