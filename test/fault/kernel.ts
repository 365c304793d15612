// What Linux says of a server and its connections.
import { readFileSync } from "node:fs";

export interface Connected {
  /** The peer's port. */
  peer: number;
  /** Bytes that the kernel holds for the peer. */
  sendQueue: number;
  /** The timer that runs on an idle connection is that of TCP keepalive; until it ends, milliseconds. Null: none. */
  keepaliveMs: number | null;
}

const TICKS_PER_SECOND = 100;
const ESTABLISHED = "01";
const KEEPALIVE = "02";

/** The server's side of the connections to its port on 127.0.0.1. */
export function connectionsOf(port: number): Connected[] {
  const found: Connected[] = [];
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1)) {
    const [, local, remote, state, queues, timer] = line.trim().split(/\s+/);
    if (state !== ESTABLISHED || Number.parseInt(local!.split(":")[1]!, 16) !== port) continue;
    const [kind, ticks] = timer!.split(":") as [string, string];
    found.push({
      peer: Number.parseInt(remote!.split(":")[1]!, 16),
      sendQueue: Number.parseInt(queues!.split(":")[0]!, 16),
      keepaliveMs: kind === KEEPALIVE ? (Number.parseInt(ticks, 16) * 1000) / TICKS_PER_SECOND : null,
    });
  }
  return found;
}

/** Bytes that the kernel holds for the peer of the server's slowest connection. */
export const longestQueue = (port: number): number =>
  Math.max(0, ...connectionsOf(port).map(({ sendQueue }) => sendQueue));

const status = (pid: number, field: string): number =>
  Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;

/** Memory of a process, MiB: now. */
export const residentMiB = (pid: number): number => status(pid, "VmRSS");
