// npm run soak: see arguments.ts, embedded-main.ts and mutations.ts. Exit code 1 where something was lost, or any other promise was broken.
import { cleanUp } from "../harness.ts";
import { readArguments } from "./arguments.ts";
import { soakEmbedded } from "./embedded-main.ts";
import { checkMutations } from "./mutations.ts";
import { report } from "./report.ts";
import { soak } from "./soak.ts";

const args = process.argv.slice(2);
if (args.includes("--mutations")) process.exit(await checkMutations(args));
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
  process.on(signal, () => {
    cleanUp();
    process.exit(130);
  });
if (args.includes("--embedded")) process.exit(await soakEmbedded(args));
const options = readArguments();
console.log(`seed ${options.seed}: the same again with --seed ${options.seed}`);
const outcome = await soak(options);
const { lines, failures } = report(outcome);
console.log(`\n${lines.join("\n")}\n`);
for (const example of outcome.findings.examples) console.log(example);
console.log(failures.length === 0 ? "everything held" : `NOT HELD: ${failures.join("; ")}`);
process.exit(failures.length === 0 ? 0 : 1);
