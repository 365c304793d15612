// How much processor time and memory processes take, this one among them.
import { readFileSync } from "node:fs";

/** Seconds of processor time that a process has used. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export const residentMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;

/** Measures between `start` and `stop`. */
export class Meter {
  /** By process: shares of one core. */
  cores: number[] = [];
  private before: number[] = [];
  private startedAt = 0;

  constructor(private readonly pids: number[]) {}

  start(): void {
    this.startedAt = performance.now();
    this.before = this.pids.map(cpuSeconds);
  }

  stop(): void {
    const seconds = (performance.now() - this.startedAt) / 1000;
    this.cores = this.pids.map((pid, i) => (cpuSeconds(pid) - this.before[i]!) / seconds);
  }
}
