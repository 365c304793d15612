// Compiles build/ChatServer and build/ChatClient, self-contained executables. Run by build/npm.mjs.
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { rename, utimes } from "node:fs/promises";
import { constants } from "node:os";
import { join, resolve } from "node:path";
import { $ } from "bun";
import { version } from "../package.json" with { type: "json" };

const root = resolve(import.meta.dir, "..");
/** Holds unfinished output, also Bun's (which it writes to the working directory): removed when this process ends. */
const folder = join(root, "build", `${process.pid}.bun-build`);

/** Their entry points; workers need entry points of their own, which the executable finds beside the main one. */
const PROGRAMS = {
  ChatServer: ["src/start.ts", "src/store-worker.ts", "src/checkpoint-worker.ts"],
  ChatClient: ["src/client/main.ts"],
};

/** The commit, with "-dirty" where files differ; --git-dir, because a parent folder may be another repository. */
async function readCommit(): Promise<string> {
  const git = await $`git --git-dir=.git describe --always --dirty --exclude='*'`.cwd(root).quiet().nothrow();
  return git.exitCode === 0 ? git.text().trim() : "unknown";
}

async function compile(name: string, entries: string[], define: Record<string, string>): Promise<void> {
  const executable = join(root, "build", name);
  // A running executable cannot be written to, but can be replaced. The name of the file written becomes part of it,
  // its folder's name does not: the same sources give the same bytes.
  const outfile = join(folder, name);
  // Dated to the start: files edited during the build are newer, so the next build picks them up.
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

/** Removes what killed builds left behind. */
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
    // It exists, but belongs to another user.
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
