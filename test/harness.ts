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

/** A temporary folder that goes when the process ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "chatserver-"));
  if (folders.size === 0)
    process.on("exit", () => {
      for (const each of folders) rmSync(each, { recursive: true, force: true });
    });
  folders.add(folder);
  return folder;
}

export interface RunningServer {
  port: number;
  pid: number;
  /** What it has logged so far. */
  log(): string;
  /** Sends a signal and waits for the end; the exit code, or null where the signal ended it. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  exited: Promise<number | null>;
}

/** Starts a server on the database `data`, with flags of its own; rejects with its log where it does not get ready. */
export async function startServer(data: string, flags: string[] = CHEAP_PASSWORDS, port = 0): Promise<RunningServer> {
  const server = Bun.spawn([CHAT_SERVER, String(port), "--host", "127.0.0.1", "--data", data, ...flags], {
    stdout: "pipe",
    stderr: "pipe",
    stdin: "ignore",
    env: { PATH: process.env.PATH, HOME: temporaryFolder() },
  });
  started.add(server);
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
  const outputs = Promise.all([read(server.stdout), read(server.stderr)]);
  const exited = server.exited.then(async () => {
    await outputs;
    started.delete(server);
    ready.reject(new Error(`the server ended before it was ready:\n${log}`));
    return server.signalCode === null ? server.exitCode : null;
  });
  const late = setTimeout(() => ready.reject(new Error(`the server was not ready in time:\n${log}`)), READY_MS);
  try {
    const listening = await ready.promise;
    return {
      port: listening,
      pid: server.pid,
      log: () => log,
      exited,
      stop: (signal = "SIGTERM") => {
        server.kill(signal);
        return exited;
      },
    };
  } finally {
    clearTimeout(late);
  }
}

/** Servers that are still running: ended with the test process, whatever happens to it. */
const started = new Set<Bun.Subprocess>();
process.on("exit", () => {
  for (const server of started) server.kill("SIGKILL");
});

/** Waits until `condition` holds; rejects with `what` after `ms`. */
export async function until(condition: () => unknown, what: string, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await Bun.sleep(5);
  }
}
