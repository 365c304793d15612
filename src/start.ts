// Where ./ChatServer begins: what the runtime reads before any code runs is set, by beginning once more; then main.ts.

/**
 * The runtime's allocator gives free parts of its pages back to the system every few moments. What a busy server frees, it
 * needs again at once: the page faults and the thread that gives back cost a twentieth of the processor. Given back is
 * still what is free as a whole. Whoever sets it, to 0 or 1, is left alone.
 */
const VARIABLE = "MIMALLOC_PURGE_HOLES";

// A listening socket that was passed (see systemd.ts) would be closed on the way: the unit sets the variable itself.
if (process.env[VARIABLE] === undefined && process.env.LISTEN_FDS === undefined)
  try {
    // The same process, with its id. The second argument is the program's name within the executable.
    process.execve!(process.execPath, [process.argv0, ...process.argv.slice(2)], { ...process.env, [VARIABLE]: "0" });
  } catch {
    // Where it may not (or the file has been replaced just now), it costs that twentieth.
  }
void import("./main.ts");
