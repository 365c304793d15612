// Implements the npm scripts: node build/npm.mjs <command> [arguments]. Needs Node.js 18 and npm; everything else is
// installed into node_modules, and only when needed.
import { spawn, spawnSync } from "node:child_process";
import {
  accessSync,
  existsSync,
  constants as files,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
} from "node:fs";
import { constants, homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureServices } from "./services.mjs";
import { closingLine, runTests } from "./tests.mjs";

const EXECUTABLES = ["build/ChatServer", "build/ChatClient"];
const SOURCES = ["src", "sql", "build/build.ts", "package.json", "package-lock.json"];
/** npm writes this file last. */
const INSTALLED = "node_modules/.package-lock.json";
/** Matches npm's messages when the network is at fault. */
const UNREACHABLE = /ENOTFOUND|ECONN[A-Z]+|ETIMEDOUT|EAI_AGAIN/;
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"];

/** Reports progress; standard output belongs to the program that is run. */
const say = (text) => process.stderr.write(`${text}\n`);

class Failure extends Error {
  constructor(problem, code = 1) {
    super(problem);
    this.code = code;
  }
}

const failOn = (problem) => {
  if (problem !== null) throw new Failure(problem);
};

/** When a file, or anything in a folder, last changed: milliseconds since the epoch; 0 where there is none. */
function changed(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 0;
  // A folder's own date shows that files were removed or renamed.
  const inside = stat.isDirectory() ? readdirSync(path).map((name) => changed(join(path, name))) : [];
  return Math.max(stat.mtimeMs, ...inside);
}

/**
 * Runs a program and resolves to its exit code; signals meanwhile are forwarded to it. Its output is shown, or passed
 * to `onOutput`.
 */
function run(program, args, onOutput, env = process.env) {
  return new Promise((resolve, reject) => {
    const output = onOutput === undefined ? "inherit" : "pipe";
    const child = spawn(program, args, { stdio: ["inherit", output, output], env });
    child.stdout?.on("data", onOutput);
    child.stderr?.on("data", onOutput);
    // A terminal sends its signals to the child too: a second one would mean "exit now".
    const atTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
    const forward = (signal) => {
      if (signal === "SIGTERM" || !atTerminal) child.kill(signal);
    };
    for (const signal of SIGNALS) process.on(signal, forward);
    const end = () => {
      for (const signal of SIGNALS) process.off(signal, forward);
    };
    child.on("error", (error) => {
      end();
      reject(new Failure(`${program} cannot be run: ${error.message}`));
    });
    child.on("close", (code, signal) => {
      end();
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

/** Makes a folder for npm's downloads if its own cannot be written, as without a home; null where it can. */
function makeCache() {
  try {
    const own = process.env.npm_config_cache ?? join(homedir(), ".npm");
    mkdirSync(own, { recursive: true });
    accessSync(own, files.W_OK);
    return null;
  } catch {
    return mkdtempSync(join(tmpdir(), "chatserver-npm-"));
  }
}

async function install() {
  if (existsSync(INSTALLED) && changed(INSTALLED) >= changed("package-lock.json")) return;
  say("installing dependencies…");
  // The build needs the development dependencies, whatever NODE_ENV says.
  const cache = makeCache();
  const args = ["ci", "--include=dev", "--ignore-scripts", "--no-audit", "--no-fund"];
  if (cache !== null) args.push("--cache", cache);
  // npm does not run without a home.
  const env = { ...(cache !== null && { HOME: cache }), ...process.env };
  let output = "";
  const code = await run("npm", args, (chunk) => (output += chunk), env);
  // npm's messages say where its log is, so that stays.
  if (cache !== null) rmSync(code === 0 ? cache : join(cache, "_cacache"), { recursive: true, force: true });
  if (code === 0) return;
  process.stderr.write(output);
  const remedy = UNREACHABLE.test(output) ? ": is npm's registry in reach?" : "";
  throw new Failure(`npm ci failed (exit code ${code}), its messages are above${remedy}`, code > 128 ? code : 1);
}

/** The installed Bun: where npm put this platform's, or where the bun package's install script moves it. */
function findBun() {
  const platforms = "node_modules/@oven";
  const packages = existsSync(platforms) ? readdirSync(platforms).map((name) => join(platforms, name, "bin/bun")) : [];
  const bun = [...packages, "node_modules/bun/bin/bun.exe"].find(
    (path) => existsSync(path) && spawnSync(path, ["--version"]).status === 0,
  );
  if (bun === undefined)
    throw new Failure(
      `no Bun in node_modules runs here (${process.platform} ${process.arch}): remove node_modules, try again`,
    );
  return bun;
}

async function build() {
  await install();
  say("building…");
  const code = await run(findBun(), ["build/build.ts"]);
  // It was ended by a signal, which is no failure of the build.
  if (code > 128) throw new Failure("not built", code);
  if (code !== 0) throw new Failure("the build failed, its messages are above");
}

async function buildIfStale() {
  const sources = Math.max(...SOURCES.map(changed));
  if (EXECUTABLES.some((executable) => changed(executable) < sources)) await build();
}

const commands = {
  async start(args) {
    await buildIfStale();
    return run("build/ChatServer", args);
  },
  async test(args) {
    try {
      failOn(ensureServices(say));
      await install();
      await buildIfStale();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      say(error.message);
      return closingLine(0, 1);
    }
    return runTests(findBun(), args);
  },
  async check() {
    await install();
    // A unit test compares the README's table with the executable's output.
    await buildIfStale();
    const codes = [await run("node_modules/.bin/tsc", ["--noEmit"]), await run("node_modules/.bin/biome", ["check"])];
    // Tests run only if these pass, so that a failure stays the last thing shown.
    return codes.every((code) => code === 0) ? runTests(findBun(), ["test/unit"]) : 1;
  },
  async build() {
    await build();
    return 0;
  },
  async package(args) {
    // Regardless of dates: the executables contain the commit, which has no date to compare.
    await build();
    return run(findBun(), ["build/package.ts", ...args]);
  },
  async bench(args) {
    await install();
    await buildIfStale();
    return run(findBun(), ["test/bench/bench.ts", ...args]);
  },
  async soak(args) {
    failOn(ensureServices(say));
    await install();
    await buildIfStale();
    return run(findBun(), ["test/soak/main.ts", ...args]);
  },
  async format() {
    await install();
    return run("node_modules/.bin/biome", ["check", "--write"]);
  },
};

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
const [name, ...args] = process.argv.slice(2);
const command = Object.hasOwn(commands, name ?? "") ? commands[name] : undefined;
try {
  if (command === undefined)
    throw new Failure(`usage: node build/npm.mjs ${Object.keys(commands).join("|")} [arguments]`);
  process.exitCode = await command(args);
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  say(error.message);
  process.exitCode = error.code;
}
