// The calls of the C library that the runtime does not offer. The only file that uses FFI.
import { dlopen } from "bun:ffi";

const NAMES = process.platform === "darwin" ? ["libSystem.B.dylib"] : ["libc.so.6", "libc.so"];

function load() {
  for (const name of NAMES) {
    try {
      return dlopen(name, {
        listen: { args: ["i32", "i32"], returns: "i32" },
        flock: { args: ["i32", "i32"], returns: "i32" },
      }).symbols;
    } catch {
      // the next name
    }
  }
  return null;
}
const libc = load();

/** Sets the backlog of a listening socket; the runtime's own is 512 and cannot be set. False where it did not work. */
export const setBacklog = (fd: number, backlog: number): boolean => libc?.listen(fd, backlog) === 0;

/** Takes the exclusive lock of an open file, until it is closed or the process ends; false where another holds it. */
export const lockFile = (fd: number): boolean => libc === null || libc.flock(fd, 2 | 4) === 0; // LOCK_EX | LOCK_NB
