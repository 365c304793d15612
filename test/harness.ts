// Starts the real executable for tests and benchmarks: on a free port, in a temporary folder, until it is ready.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const CHAT_SERVER = resolve(import.meta.dir, "../build/ChatServer");
export const CHAT_CLIENT = resolve(import.meta.dir, "../build/ChatClient");

/** Hashes that cost next to nothing: tests are not about them. */
export const CHEAP_PASSWORDS = ["--password-memory", "1", "--password-time", "1"];

const READY_MS = 10_000;
const folders = new Set<string>();
/** Processes that are still running. */
export const started = new Set<Bun.Subprocess>();

/** Kills what is still running and removes temporary folders: at the end of all tests, or of the process. */
export function cleanUp(): void {
  for (const each of started) each.kill("SIGKILL");
  for (const each of folders) {
    try {
      rmSync(each, { recursive: true, force: true });
    } catch {
      // A program that is just ending may still write there; the other folders are removed.
    }
  }
}
process.on("exit", cleanUp);

/** Makes a temporary folder, removed by `cleanUp`. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "chatserver-"));
  folders.add(folder);
  return folder;
}

/** How a program is started, where it matters. */
export interface Surroundings {
  /** A program that sets up limits and then runs it, such as `prlimit --fsize=1000`. */
  prefix?: string[];
  cwd?: string;
  /** Its whole environment. */
  env?: Record<string, string | undefined>;
  /** Passed as descriptors 3, 4 … */
  descriptors?: number[];
}

function spawn(command: string[], { prefix = [], cwd, env, descriptors = [] }: Surroundings) {
  const program = Bun.spawn([...prefix, ...command], {
    stdio: ["ignore", "pipe", "pipe", ...descriptors],
    cwd,
    env: env ?? { PATH: process.env.PATH, HOME: temporaryFolder() },
  });
  started.add(program);
  program.exited.then(() => started.delete(program));
  return program;
}

export interface Ended {
  /** The exit code; null where a signal ended it. */
  code: number | null;
  output: string;
  errors: string;
}

/** Runs a program that ends by itself; rejects if it has not after `ms`. */
export async function runProgram(command: string[], surroundings: Surroundings = {}, ms = READY_MS): Promise<Ended> {
  const program = spawn(command, surroundings);
  const late = setTimeout(() => program.kill("SIGKILL"), ms);
  const [output, errors] = await Promise.all([program.stdout.text(), program.stderr.text(), program.exited]);
  clearTimeout(late);
  if (program.signalCode === "SIGKILL") throw new Error(`${command} did not end:\n${output}${errors}`);
  return { code: program.signalCode === null ? program.exitCode : null, output, errors };
}

export interface RunningServer {
  port: number;
  pid: number;
  /** What it has logged so far. */
  log(): string;
  /** Sends a signal and waits for the end; resolves to the exit code, or null where the signal ended it. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  exited: Promise<number | null>;
}

/** Starts a server on the database `data` with these flags; rejects with its log if it does not become ready. */
export function startServer(
  data: string,
  flags: string[] = CHEAP_PASSWORDS,
  port = 0,
  surroundings: Surroundings = {},
): Promise<RunningServer> {
  const command = [CHAT_SERVER, String(port), "--host", "127.0.0.1", "--data", data, ...flags];
  return serverOf(spawn(command, surroundings));
}

/** Starts a server by `command`, which may run it indirectly; resolves once it listens. */
export const startAs = (command: string[], surroundings: Surroundings = {}): Promise<RunningServer> =>
  serverOf(spawn(command, surroundings));

async function serverOf(program: ReturnType<typeof spawn>): Promise<RunningServer> {
  let log = "";
  const ready = Promise.withResolvers<number>();
  const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      log += decoder.decode(chunk, { stream: true });
      const listening = /listening on \S+:(\d+)\n/.exec(log);
      if (listening !== null) ready.resolve(Number(listening[1]));
    }
  };
  const outputs = Promise.all([read(program.stdout), read(program.stderr)]);
  const exited = program.exited.then(async () => {
    await outputs;
    ready.reject(new Error(`the server ended before it was ready:\n${log}`));
    return program.signalCode === null ? program.exitCode : null;
  });
  const late = setTimeout(() => ready.reject(new Error(`the server was not ready in time:\n${log}`)), READY_MS);
  try {
    return {
      port: await ready.promise,
      pid: program.pid,
      log: () => log,
      exited,
      stop: (signal = "SIGTERM") => {
        program.kill(signal);
        return exited;
      },
    };
  } finally {
    clearTimeout(late);
  }
}

/**
 * A port that is free, for a program that must be told one: of those that the system gives nobody by itself (below
 * 32768), so that none of the others that start meanwhile gets it.
 */
export function freePort(): number {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    try {
      Bun.listen({ hostname: "0.0.0.0", port, socket: { data: () => undefined } }).stop(true);
      return port;
    } catch {
      // taken: another one
    }
  }
}

/** Waits until `condition` holds; rejects with `what` after `ms`. */
export async function until(condition: () => unknown, what: string, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await Bun.sleep(5);
  }
}
