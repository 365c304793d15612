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

/** Of its life: what came before was warming up. */
const FIRST_MS = 60_000;
/** A runtime gives back what it has freed when it likes to: single values say little. */
const SPAN_MS = 60_000;

/** The memory of one process, looked at from time to time. */
export class Memory {
  highest = 0;
  private readonly seen: { age: number; value: number }[] = [];

  constructor(
    readonly pid: number,
    readonly startedAt: number,
  ) {}

  look(now: number): void {
    const value = memoryOf(this.pid);
    if (value === 0) return;
    this.seen.push({ age: now - this.startedAt, value });
    this.highest = Math.max(this.highest, value);
  }

  /** In MiB, on the average of the minute that follows its first one, and of its last one; null where it was too short. */
  get span(): { first: number; last: number } | null {
    const end = this.seen.at(-1)?.age ?? 0;
    if (end < FIRST_MS + 2 * SPAN_MS) return null;
    return { first: this.mean(FIRST_MS, FIRST_MS + SPAN_MS), last: this.mean(end - SPAN_MS, end) };
  }

  private mean(from: number, to: number): number {
    const values = this.seen.filter(({ age }) => age >= from && age <= to).map(({ value }) => value);
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  }
}
