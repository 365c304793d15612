// The npm scripts, as npm runs them: arguments, signals and exit codes pass through; a run of tests leaves nothing behind.
import { expect, test } from "bun:test";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { runProgram, startAs, started, temporaryFolder, until } from "../harness.ts";

const cwd = resolve(import.meta.dir, "../..");
const script = (...args: string[]) => ["node", join("build", "npm.mjs"), ...args];
/** A stale executable is built first. */
const MS = 40_000;

test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
  "npm start: %s reaches the server, and npm waits for its end",
  async (signal) => {
    const data = join(temporaryFolder(), "with a blank", "chat.db");
    const flags = ["0", "--host", "127.0.0.1", "--log-level", "debug", "--data", data];
    const server = await startAs(script("start", ...flags), { cwd });
    expect(server.log()).toContain(`store: SQLite ${data}\n`);
    expect(await server.stop(signal)).toBe(0);
    expect(server.log()).toContain(`${signal}: draining 0 connections\n`);
    expect(server.log()).toEndWith("stopped\n");
  },
  MS,
);

test(
  "npm start: the server's refusal is npm's",
  async () => {
    const { code, output, errors } = await runProgram(script("start", "--nonsense"), { cwd }, MS);
    expect([code, output]).toEqual([2, ""]);
    expect(errors).toContain('ChatServer: unknown option "--nonsense"');
  },
  MS,
);

test("an unknown script is told what there is", async () => {
  const { code, errors } = await runProgram(script("toString"), { cwd });
  expect(code).toBe(1);
  expect(errors).toMatch(/^usage: .*start\|test\|check\|build/);
});

test(
  "npm test ends with the counts, and takes folders and processes with it",
  async () => {
    const folder = temporaryFolder();
    const inner = join(folder, "inner.test.ts");
    const pid = join(folder, "pid");
    writeFileSync(
      inner,
      `import { expect, test } from "bun:test";
     import { mkdtempSync } from "node:fs";
     import { tmpdir } from "node:os";
     import { join } from "node:path";
     test("starts a process and makes a folder", async () => {
       mkdtempSync(join(tmpdir(), "left-"));
       await Bun.write(${JSON.stringify(pid)}, String(Bun.spawn(["sleep", "1000"]).pid));
     });
     test("passes", () => {});
     test("fails", () => expect(1).toBe(2));`,
    );
    const TMPDIR = join(folder, "temporary");
    mkdirSync(TMPDIR);
    const env = { ...process.env, TMPDIR };
    const { code, output } = await runProgram(script("test", inner), { cwd, env }, MS);
    expect(code).toBe(1);
    expect(output).toEndWith("\n2 passed, 1 failed\n");
    expect(readdirSync(TMPDIR)).toEqual([]);
    const state = () => {
      try {
        return readFileSync(`/proc/${readFileSync(pid, "utf8")}/stat`, "utf8").split(" ")[2]!;
      } catch {
        return "gone";
      }
    };
    // Ended, at the latest when it is collected.
    await until(() => ["Z", "gone"].includes(state()), "the process has ended");

    writeFileSync(inner, "process.kill(process.pid, 'SIGKILL');");
    const killed = await runProgram(script("test", inner), { cwd, env }, MS);
    expect(killed.code).toBe(1);
    expect(killed.output).toEndWith("\n0 passed, 1 failed\n");
  },
  MS,
);

/** A checkout of its own, with what a build needs. */
function checkout(): string {
  const folder = temporaryFolder();
  for (const name of ["build/npm.mjs", "build/services.mjs", "build/tests.mjs", "build/build.ts", "src", "sql"])
    cpSync(join(cwd, name), join(folder, name), { recursive: true, preserveTimestamps: true });
  for (const name of ["package.json", "package-lock.json"])
    cpSync(join(cwd, name), join(folder, name), { preserveTimestamps: true });
  return folder;
}

test.each([["SIGTERM", 143] as const, ["SIGINT", 130] as const])(
  "a build that %s ends leaves nothing behind, and removes what killed ones have left",
  async (signal, code) => {
    const folder = checkout();
    symlinkSync(join(cwd, "node_modules"), join(folder, "node_modules"));
    // No process has a number as high.
    const left = join(folder, "build/99999999.bun-build");
    mkdirSync(left);
    const build = Bun.spawn(script("build"), { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    started.add(build);
    const unfinished = () =>
      [".", "build"].flatMap((each) => readdirSync(join(folder, each))).filter((name) => name.endsWith(".bun-build"));
    await until(() => unfinished().some((name) => !left.endsWith(name)), "the build has begun to write", MS);
    build.kill(signal);
    expect(await build.exited).toBe(code);
    expect(unfinished()).toEqual([]);
    expect(await build.stderr.text()).toBe("building…\nnot built\n");
  },
  MS,
);

test.each([
  ["npm error code EACCES", "npm ci failed (exit code 1), its messages are above"],
  ["npm error code ENOTFOUND", "npm ci failed (exit code 1), its messages are above: is npm's registry in reach?"],
])(
  "an installation that fails with %s keeps its log, and asks for the registry where that may help",
  async (said, told) => {
    const folder = checkout();
    const log = join(folder, "log");
    // As npm does: a log in the cache, which is a temporary one here.
    const npm = `#!/bin/sh
while [ "$1" != --cache ]; do shift; done
mkdir -p "$HOME" "$2/_logs" "$2/_cacache"
echo all >"$2/_logs/debug.log"
echo "$2" >${log}
echo "${said}" >&2
exit 1
`;
    mkdirSync(join(folder, "bin"));
    writeFileSync(join(folder, "bin/npm"), npm, { mode: 0o755 });
    const env = {
      ...process.env,
      HOME: undefined,
      PATH: `${folder}/bin:${process.env.PATH}`,
      TMPDIR: folder,
      npm_config_cache: undefined,
    };
    // A user whom the system does not know has no home, which npm insists on.
    const prefix = ["unshare", "--user", "--map-user=23456"];
    const { code, errors } = await runProgram(script("build"), { prefix, cwd: folder, env }, MS);
    expect([code, errors]).toEqual([1, `installing dependencies…\n${said}\n${told}\n`]);
    const cache = readFileSync(log, "utf8").trim();
    expect(cache).toStartWith(folder);
    expect(readdirSync(cache)).toEqual(["_logs"]);
  },
);
