// Entry point of ./ChatServer: sets what the runtime reads before any code runs, by exec of itself; then main.ts.

/** Defaults: variables that are set already win. The unit (systemd/ChatServer@.service) sets the same. */
const SETTINGS = {
  /**
   * Milliseconds until the allocator returns free pages to the system, and between its searches for free parts of
   * pages; its defaults are 100. A busy server needs again at once what it frees, at the cost of page faults. Never
   * returning any (MIMALLOC_PURGE_DELAY=-1) would keep what a crowd's logins needed: 2 to 3 KiB a session.
   */
  MIMALLOC_PURGE_DELAY: "5000",
  MIMALLOC_PURGE_HOLES_MIN_INTERVAL: "5000",
  /**
   * How often code runs before it is optimized, and before it is optimized thoroughly; the defaults are 1,000 and
   * 64,000. A server runs few paths, always the same: waiting longer teaches the compilers nothing, and the fewer
   * messages come, the longer compiling would be in their way.
   */
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "200",
  BUN_JSC_thresholdForFTLOptimizeAfterWarmUp: "8000",
};

const environment = { ...SETTINGS, ...process.env };
const isComplete = Object.keys(SETTINGS).every((name) => process.env[name] !== undefined);
// A passed listening socket (see systemd.ts) would be closed on the way.
if (!isComplete && process.env.LISTEN_FDS === undefined)
  try {
    // Keeps the process id. The second argument is the program's path within the executable.
    process.execve!(process.execPath, [process.argv0, ...process.argv.slice(2)], environment);
  } catch {
    // If that is not possible (or the file has just been replaced), the server runs a little slower.
  }
void import("./main.ts");
