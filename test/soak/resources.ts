// What a server takes of the machine: it must not grow.
import { readdirSync, readFileSync } from "node:fs";

/** Resident memory in MiB; 0 where there is no such process. */
export function memoryOf(pid: number): number {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

export function descriptorsOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return 0;
  }
}

/** A value that is looked at from time to time. */
export class Memory {
  /** After a minute of load, in MiB: what it is compared with; 0: the process did not live so long. */
  first = 0;
  highest = 0;
  last = 0;

  constructor(
    readonly pid: number,
    readonly startedAt: number,
  ) {}

  look(now: number, afterMs: number): void {
    const value = memoryOf(this.pid);
    if (value === 0) return;
    if (this.first === 0 && now - this.startedAt >= afterMs) this.first = value;
    this.last = value;
    this.highest = Math.max(this.highest, value);
  }

  /** Of what it was after the first minute, how much more it is in the end; null where it did not live so long. */
  get growth(): number | null {
    return this.first === 0 ? null : this.last / this.first - 1;
  }
}
