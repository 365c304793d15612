// How busy a thread is: whether it could do more, or has the processor's time as its limit.
import { readFileSync } from "node:fs";

export class Busy {
  private at = performance.now();
  private busyNs = busyNanoseconds();

  /** Of the time since the last call, the share in which this process's main thread ran or wanted to; 1 where that is not told. */
  share(): number {
    const [at, busyNs] = [performance.now(), busyNanoseconds()];
    const elapsedNs = (at - this.at) * 1e6;
    const share = busyNs === null || this.busyNs === null || elapsedNs <= 0 ? 1 : (busyNs - this.busyNs) / elapsedNs;
    this.at = at;
    this.busyNs = busyNs;
    return share;
  }
}

/** On a processor and waiting for one, since the start (Linux, Documentation/scheduler/sched-stats). */
function busyNanoseconds(): number | null {
  try {
    const [running, waiting] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ");
    return Number(running) + Number(waiting);
  } catch {
    return null;
  }
}
