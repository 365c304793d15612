// Where ./ChatServer begins: what the runtime reads before any code runs is set, by beginning once more; then main.ts.

/** Whoever sets one of them is left alone. The unit (systemd/ChatServer@.service) sets the same. */
const SETTINGS = {
  /**
   * Milliseconds until the allocator gives free pages back to the system, and between its looks for free parts of pages; its
   * own are 100. What a busy server frees, it needs again at once, at the cost of page faults. Never (MIMALLOC_PURGE_DELAY=-1)
   * would keep what a crowd's log-ins needed: 2 to 3 KiB a session.
   */
  MIMALLOC_PURGE_DELAY: "5000",
  MIMALLOC_PURGE_HOLES_MIN_INTERVAL: "5000",
  /**
   * How often code runs before it is optimized, and before it is optimized thoroughly; the runtime's own are 1,000 and
   * 64,000. A server runs few paths, always the same: waiting longer teaches the compilers nothing, and the fewer messages
   * come, the longer would they be in its way.
   */
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "200",
  BUN_JSC_thresholdForFTLOptimizeAfterWarmUp: "8000",
};

const environment = { ...SETTINGS, ...process.env };
const isComplete = Object.keys(SETTINGS).every((name) => process.env[name] !== undefined);
// A listening socket that was passed (see systemd.ts) would be closed on the way.
if (!isComplete && process.env.LISTEN_FDS === undefined)
  try {
    // The same process, with its id. The second argument is the program's name within the executable.
    process.execve!(process.execPath, [process.argv0, ...process.argv.slice(2)], environment);
  } catch {
    // Where it may not (or the file has been replaced just now), it is a little slower.
  }
void import("./main.ts");
