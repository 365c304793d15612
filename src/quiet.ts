// After a busy time, memory that it has left behind is given back to the system: the runtime collects garbage by itself,
// but its allocator keeps most of what was freed by other threads until it is asked.

/** How often is looked whether the process is quiet. */
const LOOK_MS = 1_000;
/** Less processor time than this between two looks, all threads together, is quiet: 5 % of one processor. */
const QUIET_CPU_MS = 50;
/** Collections after a busy time: each returns what was free by then, and frees more. */
const COLLECTIONS = 3;

/** Decides when to collect. */
export class Quiet {
  /** Collections still to come. */
  private left = 0;
  private usedMs = 0;
  /** A collection was begun at the last look: the processor time since then is its own. */
  isCollecting = false;

  /** To be called every LOOK_MS with the process's processor time so far; whether to collect now. */
  look(usedMs: number): boolean {
    const spentMs = usedMs - this.usedMs;
    this.usedMs = usedMs;
    if (this.isCollecting) this.isCollecting = false;
    else if (spentMs >= QUIET_CPU_MS) this.left = COLLECTIONS;
    else if (this.left > 0) {
      this.left--;
      this.isCollecting = true;
    }
    return this.isCollecting;
  }
}

/** Begins to look, for as long as the process runs; `onReturned` is called after each time memory was given back. */
export function returnMemoryWhenQuiet(onReturned: () => void): void {
  const quiet = new Quiet();
  setInterval(() => {
    if (quiet.isCollecting) onReturned();
    const { user, system } = process.cpuUsage();
    // Not in one go, but alongside: a large memory takes long to look through.
    if (quiet.look((user + system) / 1000)) Bun.gc(false);
  }, LOOK_MS);
}
