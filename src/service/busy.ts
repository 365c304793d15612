// How busy the main thread is: whether it could do more, or is limited by processor time.
import { readFileSync } from "node:fs";

export class Busy {
  private at = performance.now();
  private busyNs = busyNanoseconds();

  /** The share of the time since the last call in which the main thread ran or was runnable; 1 where unknown. */
  share(): number {
    const [at, busyNs] = [performance.now(), busyNanoseconds()];
    const elapsedNs = (at - this.at) * 1e6;
    const share = busyNs === null || this.busyNs === null || elapsedNs <= 0 ? 1 : (busyNs - this.busyNs) / elapsedNs;
    this.at = at;
    this.busyNs = busyNs;
    return share;
  }
}

/** Time spent running and waiting to run, since the start (Linux, Documentation/scheduler/sched-stats). */
function busyNanoseconds(): number | null {
  try {
    const [running, waiting] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ");
    return Number(running) + Number(waiting);
  } catch {
    return null;
  }
}
