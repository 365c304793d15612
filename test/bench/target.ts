// What the load is sent to: a server on its embedded database, or the bare relay. (A cluster: see scenarios/cluster.ts.)
import { rmSync } from "node:fs";
import { join } from "node:path";
import { CHEAP_PASSWORDS, type Surroundings, startAs, started, temporaryFolder } from "../harness.ts";

/** A ChatServer's executable. */
export interface Build {
  name: string;
  path: string;
}

export interface Target {
  /** Ports, which differ where the two are on different instances. */
  senders: number;
  receivers: number;
  /** A bare relay: it knows no users and does not count by conversation. */
  bare: boolean;
  /** Its processes by what they are: the columns of their shares of a processor. */
  processes: Record<string, number>;
}

export interface RunningTarget extends Target {
  pid: number;
  port: number;
  /** Ends it and removes its data. */
  stop(): Promise<void>;
}

const targetOf = (port: number, pid: number, bare: boolean): Omit<RunningTarget, "stop"> => ({
  senders: port,
  receivers: port,
  bare,
  port,
  pid,
  processes: { server: pid },
});

/** Starts the server on the embedded database `file`, which stays. */
export async function startOn(
  build: Build,
  file: string,
  flags = CHEAP_PASSWORDS,
  surroundings: Surroundings = {},
): Promise<RunningTarget & { stop(signal?: NodeJS.Signals): Promise<void> }> {
  const server = await startAs([build.path, "0", "--host", "127.0.0.1", "--data", file, ...flags], surroundings);
  return {
    ...targetOf(server.port, server.pid, false),
    stop: async (signal?: NodeJS.Signals) => void (await server.stop(signal)),
  };
}

/** Starts a server on an empty embedded database. */
export async function startServer(build: Build, flags?: string[], surroundings?: Surroundings): Promise<RunningTarget> {
  const folder = temporaryFolder();
  const server = await startOn(build, join(folder, "chat.db"), flags, surroundings);
  return {
    ...server,
    stop: async () => {
      // What it holds goes with it: nobody reads this database again.
      await server.stop("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export async function startRelay(): Promise<RunningTarget> {
  const relay = Bun.spawn([process.execPath, join(import.meta.dir, "relay.ts")], { stdout: "pipe", stdin: "ignore" });
  started.add(relay);
  const { value } = await relay.stdout.getReader().read();
  const port = Number(/:(\d+)\n/.exec(new TextDecoder().decode(value))![1]);
  return {
    ...targetOf(port, relay.pid, true),
    stop: async () => {
      relay.kill("SIGKILL");
      await relay.exited;
      started.delete(relay);
    },
  };
}

/** Runs `work` on a target and ends that, whatever happens. */
export async function during<T extends { stop(): Promise<void> }, R>(
  target: Promise<T>,
  work: (target: T) => Promise<R>,
): Promise<R> {
  const running = await target;
  try {
    return await work(running);
  } finally {
    await running.stop();
  }
}
