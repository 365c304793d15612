// npm run soak: see arguments.ts. Exit code 1 where something was lost, or any other promise was broken.
import { cleanUp } from "../harness.ts";
import { readArguments } from "./arguments.ts";
import { report } from "./report.ts";
import { soak } from "./soak.ts";

const options = readArguments();
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
  process.on(signal, () => {
    cleanUp();
    process.exit(130);
  });
console.log(`seed ${options.seed}: the same again with --seed ${options.seed}`);
const outcome = await soak(options);
const { lines, failures } = report(outcome);
console.log(`\n${lines.join("\n")}\n`);
for (const example of outcome.findings.examples) console.log(example);
console.log(failures.length === 0 ? "everything held" : `NOT HELD: ${failures.join("; ")}`);
process.exit(failures.length === 0 ? 0 : 1);
