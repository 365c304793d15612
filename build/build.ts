// Compiles build/ChatServer and build/ChatClient, executables that need nothing beside them. Run by build/npm.mjs.
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { rename, utimes } from "node:fs/promises";
import { constants } from "node:os";
import { join, resolve } from "node:path";
import { $ } from "bun";
import { version } from "../package.json" with { type: "json" };

const root = resolve(import.meta.dir, "..");
/** What is written until it is whole, also by Bun, which does so where it runs: nothing of it outlives this process. */
const folder = join(root, "build", `${process.pid}.bun-build`);

/** Their entry points; a worker's program is one of its own, which the executable finds beside the main program. */
const PROGRAMS = {
  ChatServer: ["src/start.ts", "src/store-worker.ts", "src/checkpoint-worker.ts"],
  ChatClient: ["src/client/main.ts"],
};

/** The commit, with "-dirty" where files differ from it; --git-dir, as a folder further up may be another repository. */
async function readCommit(): Promise<string> {
  const git = await $`git --git-dir=.git describe --always --dirty --exclude='*'`.cwd(root).quiet().nothrow();
  return git.exitCode === 0 ? git.text().trim() : "unknown";
}

async function compile(name: string, entries: string[], define: Record<string, string>): Promise<void> {
  const executable = join(root, "build", name);
  // A running executable cannot be written to, but replaced. The name of the file that is written becomes part of it,
  // the folder's does not: the same sources give the same bytes.
  const outfile = join(folder, name);
  // Dated to the start: what is edited meanwhile is newer, and built the next time.
  const started = new Date();
  await Bun.build({
    entrypoints: entries.map((entry) => join(root, entry)),
    compile: { outfile, autoloadDotenv: false, autoloadBunfig: false },
    target: "bun",
    format: "esm",
    minify: true,
    bytecode: true,
    define,
  });
  await utimes(outfile, started, started);
  await rename(outfile, executable);
}

/** Of builds that were killed. */
function removeLeftOvers(): void {
  for (const name of readdirSync(join(root, "build"))) {
    const pid = /^(\d+)\.bun-build$/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) rmSync(join(root, "build", name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Another user's process is alive too.
    return (error as { code?: string }).code === "EPERM";
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.on(signal, () => process.exit(128 + constants.signals[signal]));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
removeLeftOvers();

const define = {
  BUILD_VERSION: JSON.stringify(version),
  BUILD_COMMIT: JSON.stringify(await readCommit()),
};
mkdirSync(folder);
process.chdir(folder);
const results = await Promise.allSettled(
  Object.entries(PROGRAMS).map(([name, entries]) => compile(name, entries, define)),
);
for (const result of results) {
  if (result.status === "fulfilled") continue;
  process.exitCode = 1;
  const { reason } = result;
  for (const error of reason instanceof AggregateError ? reason.errors : [reason]) console.error(error);
}
