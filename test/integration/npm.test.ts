// The npm scripts, as npm runs them: arguments, signals and exit codes pass through; a run of tests leaves nothing behind.
import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { runProgram, startAs, temporaryFolder, until } from "../harness.ts";

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
