// Runs the tests in the installed Bun: within a time limit, leaving nothing behind, with a final line that counts them.
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { stripVTControlCharacters } from "node:util";

const TESTS = ["test/unit", "test/store", "test/protocol", "test/integration", "test/fault"];
/** For all tests together; what is still running then is killed. */
const LIMIT_MINUTES = 20;
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"];

const hasTests = (folder) =>
  existsSync(folder) &&
  readdirSync(folder, { withFileTypes: true }).some((entry) =>
    entry.isDirectory() ? hasTests(join(folder, entry.name)) : entry.name.endsWith(".test.ts"),
  );

/**
 * Runs the tests named by `args` (all, if they name no file or folder) and prints how many passed and failed. Resolves
 * to the exit code: 0 where some passed and none failed.
 */
export async function runTests(bun, args) {
  const named = args.some((arg) => arg.startsWith("test/") || existsSync(arg));
  const folders = named ? [] : TESTS.filter(hasTests);
  if (!named && folders.length === 0) return closingLine(0, 0);
  const temporary = mkdtempSync(join(tmpdir(), "chatserver-tests-"));
  // Some programs started by the tests run as another user.
  chmodSync(temporary, 0o755);
  try {
    const report = join(temporary, "junit.xml");
    const reporter = ["--reporter=junit", `--reporter-outfile=${report}`];
    const { code, seen } = await runRunner(
      bun,
      ["test", "--timeout=60000", ...reporter, ...folders, ...args],
      temporary,
    );
    if (!existsSync(report)) return closingLine(seen.passed, seen.failed + 1);
    const { tests, failures, skipped } = readCounts(readFileSync(report, "utf8"));
    if (skipped > 0) console.log(`${skipped} skipped`);
    // Failures outside tests, such as a file that does not load, are not in the report.
    return closingLine(tests - failures - skipped, code === 0 ? failures : Math.max(failures, 1));
  } finally {
    try {
      rmSync(temporary, { recursive: true, force: true });
    } catch (error) {
      process.stderr.write(`${temporary} cannot be removed: ${error.message}\n`);
    }
  }
}

/** Prints the final line of a test run; returns the exit code. */
export function closingLine(passed, failed) {
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

/**
 * Runs the test runner, and ends with it all that it has started. Resolves to its exit code and the numbers of tests it
 * has shown to pass and fail, for when it does not get as far as its report.
 */
function runRunner(bun, args, temporary) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, TMPDIR: temporary };
    if (process.stderr.isTTY) env.FORCE_COLOR ??= "1";
    // In a process group of its own, so that signals reach all of it.
    const runner = spawn(bun, args, { stdio: ["ignore", "inherit", "pipe"], env, detached: true });
    const signalAll = (signal) => {
      try {
        process.kill(-runner.pid, signal);
      } catch {
        // All have ended.
      }
    };
    const seen = { passed: 0, failed: 0 };
    createInterface({ input: runner.stderr }).on("line", (line) => {
      process.stderr.write(`${line}\n`);
      const plain = stripVTControlCharacters(line);
      if (/^(\(pass\)|✓) /.test(plain)) seen.passed++;
      else if (/^(\(fail\)|✗) /.test(plain)) seen.failed++;
    });
    for (const signal of SIGNALS) process.on(signal, signalAll);
    const limit = setTimeout(() => {
      process.stderr.write(`not ended within ${LIMIT_MINUTES} minutes, and killed: what was run stands above\n`);
      signalAll("SIGKILL");
    }, LIMIT_MINUTES * 60_000);
    runner.on("error", (error) => reject(error));
    runner.on("exit", () => {
      clearTimeout(limit);
      signalAll("SIGKILL");
    });
    runner.on("close", (code) => {
      for (const signal of SIGNALS) process.off(signal, signalAll);
      resolve({ code, seen });
    });
  });
}

/** The totals of a JUnit report, which are attributes of its root element. */
function readCounts(xml) {
  const [totals] = /<testsuites\b[^>]*>/.exec(xml) ?? [""];
  const count = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(totals)?.[1] ?? 0);
  return { tests: count("tests"), failures: count("failures"), skipped: count("skipped") };
}
