// npm run soak -- --mutations [name …] [--no-control]: does the soak see what it is there for? Each of mutants.ts is put into
// a copy of this checkout, built there, and the soak runs there against it: it must fail, by what is named there; and without
// the mutation (the control) it must hold. Exit code 1 where one was not seen.
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { cleanUp, temporaryFolder } from "../harness.ts";
import { BAD } from "./ledger.ts";
import { type Edit, MUTANTS, type Mutant } from "./mutants.ts";

const ROOT = resolve(import.meta.dir, "../..");
/** What the build and the soak need. */
const PARTS = ["src", "sql", "build", "test", "package.json", "package-lock.json", "tsconfig.json", "bunfig.toml"];
/** Of build/: made there again. */
const BUILT = ["ChatServer", "ChatClient", "dist"];
const BUILD_MS = 120_000;
/** Longer than any of the soaks takes, also one in which messages are stuck. */
const SOAK_MS = 300_000;
/** For a soak to end what it has started. */
const END_MS = 15_000;

interface Run {
  code: number | null;
  /** What was not as it must be: "lost: 12", "keys in Redis: 3 → 9". */
  bad: string[];
  output: string;
  seconds: number;
}

let running: Bun.Subprocess | null = null;

/** Resolves with the exit code: 0 where all were seen, 1 where one was not, 2 where there is none of that name. */
export async function checkMutations(args: string[]): Promise<number> {
  const names = args.flatMap((arg) => (arg.startsWith("--") ? [] : arg.split(",")));
  const unknown = names.find((name) => !MUTANTS.some((mutant) => mutant.name === name));
  if (unknown !== undefined) {
    console.error(`${unknown}: there is no such mutation, but ${MUTANTS.map(({ name }) => name).join(", ")}`);
    return 2;
  }
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, interrupt);
  const checkout = copyCheckout();
  const chosen = MUTANTS.filter(({ name }) => names.length === 0 || names.includes(name));
  // A text that has changed is told before the long time of running.
  for (const { edits } of chosen) for (const edit of edits) mutated(checkout, edit);
  const table = [row("mutation", "seen", "seconds", "by")];
  const controlled = new Map<string, boolean>();
  let failures = 0;
  for (const mutant of chosen) {
    const soak = mutant.soak.join(" ");
    if (!controlled.has(soak)) {
      const control = args.includes("--no-control") ? null : await run(checkout, [], mutant.soak);
      const holds = control === null || control.code === 0;
      controlled.set(soak, holds);
      if (control !== null) table.push(tell(row("none", holds ? "" : "NO", control.seconds, control.bad)));
      if (!holds) console.log(control?.output);
      if (!holds) failures++;
    }
    const outcome = await run(checkout, mutant.edits, mutant.soak);
    const isSeen = controlled.get(soak) && isExpected(mutant, outcome);
    table.push(tell(row(mutant.name, isSeen ? "yes" : "NO", outcome.seconds, outcome.bad)));
    if (!isSeen) console.log(outcome.output);
    if (!isSeen) failures++;
    table.push(`  ${mutant.guarantee}`, `  npm run soak -- ${soak}`);
  }
  console.log(`\n${table.join("\n")}\n`);
  console.log(failures === 0 ? "all were seen" : `${failures} not as expected`);
  return failures === 0 ? 0 : 1;
}

const row = (name: string, seen: string, seconds: number | string, bad: string[] | string): string =>
  `${name.padEnd(26)}${seen.padEnd(5)}${String(seconds).padStart(7)}  ${Array.isArray(bad) ? bad.join("; ") : bad}`.trimEnd();

function tell(line: string): string {
  console.log(line);
  return line;
}

const isExpected = ({ seenBy }: Mutant, { code, bad }: Run): boolean =>
  code === 1 && bad.some((each) => each.startsWith(seenBy));

function copyCheckout(): string {
  const folder = join(temporaryFolder(), "checkout");
  mkdirSync(folder);
  for (const part of PARTS)
    cpSync(join(ROOT, part), join(folder, part), {
      recursive: true,
      filter: (path) => !path.endsWith(".bun-build") && !(BUILT.includes(basename(path)) && isBuilt(path)),
    });
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  return folder;
}

const isBuilt = (path: string): boolean => resolve(path, "..") === join(ROOT, "build");

/** The file's text with the edit; throws where what it replaces is not there exactly once. */
function mutated(checkout: string, { file, find, replace }: Edit): string {
  const parts = readFileSync(join(checkout, file), "utf8").split(find);
  if (parts.length !== 2)
    throw new Error(
      `${file}: this is there ${parts.length - 1} times, and not once: fit test/soak/mutants.ts to it\n${find}`,
    );
  return parts.join(replace);
}

/** Edits, builds, runs the soak, and puts the sources back. */
async function run(checkout: string, edits: readonly Edit[], soak: string[]): Promise<Run> {
  const before = new Map<string, string>();
  for (const edit of edits) {
    const path = join(checkout, edit.file);
    if (!before.has(path)) before.set(path, readFileSync(path, "utf8"));
    writeFileSync(path, mutated(checkout, edit));
  }
  try {
    const built = await execute(checkout, ["build/build.ts"], BUILD_MS);
    if (built.code !== 0) throw new Error(`it cannot be built:\n${built.output}`);
    const startedAt = performance.now();
    const { code, output } = await execute(checkout, ["test/soak/main.ts", ...soak], SOAK_MS);
    return { code, output, bad: badOf(output), seconds: Math.round((performance.now() - startedAt) / 1000) };
  } finally {
    if (existsSync(checkout)) for (const [path, text] of before) writeFileSync(path, text);
  }
}

/** By this program's own Bun: npm would install what is a link here. */
async function execute(cwd: string, args: string[], ms: number): Promise<{ code: number | null; output: string }> {
  const program = Bun.spawn([process.execPath, ...args], { cwd, stdio: ["ignore", "pipe", "pipe"] });
  running = program;
  const late = setTimeout(() => end(program), ms);
  const [output, errors] = await Promise.all([program.stdout.text(), program.stderr.text(), program.exited]);
  clearTimeout(late);
  running = null;
  return { code: program.signalCode === null ? program.exitCode : null, output: output + errors };
}

/** It ends its servers and removes their files when it is told to. */
async function end(program: Bun.Subprocess): Promise<void> {
  program.kill("SIGTERM");
  const late = setTimeout(() => program.kill("SIGKILL"), END_MS);
  await program.exited;
  clearTimeout(late);
}

async function interrupt(): Promise<void> {
  if (running !== null) await end(running);
  cleanUp();
  process.exit(130);
}

const BAD_ROW = new RegExp(`^ {2}(${Object.keys(BAD).join("|")}|other) +([\\d,]+) `, "gm");

/** The table's columns that are not 0, and the limits that were not kept. */
function badOf(output: string): string[] {
  const columns = [...output.matchAll(BAD_ROW)].filter(([, , count]) => count !== "0");
  const bad = columns.map(([, name, count]) => `${name}: ${count}`);
  const limits = /^NOT HELD: (.*)$/m.exec(output)?.[1]?.split("; ") ?? [];
  return [...bad, ...limits.filter((limit) => !Object.keys(BAD).includes(limit.split(":")[0]!))];
}
