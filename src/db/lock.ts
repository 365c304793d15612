// One server per database file, by locks that the kernel releases when their holder ends, however it ends. The lock
// file beside it says who holds it; the lock of the file itself holds even if that is removed, and by any name (hard
// links).
import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  writeSync,
} from "node:fs";
import { lockByte, lockFile } from "../libc.ts";
import { StartError } from "../start-error.ts";

const GIVE_ANOTHER = "give this one another --data file (a cluster of several servers shares MySQL and Redis instead)";

/**
 * Offset of the locked byte: SQLite locks nothing there, and no file is that long. Not flock: network file systems (and
 * kernels other than Linux) turn it into a lock of all bytes, so that SQLite would wait for ourselves.
 */
const LOCKED_BYTE = 2 ** 48;

/**
 * Creates `file` if it does not exist, locks it until the returned function is called or this process ends, and notes
 * who holds it. Throws StartError with `advice` where another process does, the system's error where opening fails.
 */
export function lockDatabase(file: string, advice = GIVE_ANOTHER): () => void {
  const there = statSync(file, { throwIfNoEntry: false });
  if (there !== undefined && !there.isFile()) throw new StartError(`${file} is not a file: give --data another path`);
  // Kept open as long as the database: closing any descriptor of a file drops the process's POSIX locks on it.
  const own = openSync(file, "a", 0o600);
  // The same lock file, whichever links lead to the database.
  const path = `${realpathSync(file)}.lock`;
  const fd = openSync(path, "a+", 0o600);
  const unlock = () => {
    closeSync(fd);
    closeSync(own);
  };
  const isFree = lockFile(fd);
  if (!isFree || !lockByte(own, LOCKED_BYTE)) {
    const holder = isFree ? "" : readFileSync(path, "utf8").trim();
    unlock();
    throw new StartError(`${file} is in use by ${holder || "another server"}: ${advice}`);
  }
  ftruncateSync(fd);
  writeSync(fd, `process ${process.pid}\n`, 0);
  return unlock;
}

/**
 * If `file` is empty, a write-ahead log beside it belongs to a file that was moved away: SQLite would delete it, or
 * apply it to whatever file comes here. Renames it, and returns what to report; null where there is none. To be called
 * with the lock held.
 */
export function setLogAside(file: string): string | null {
  const real = realpathSync(file);
  const log = `${real}-wal`;
  if (statSync(real).size > 0 || (statSync(log, { throwIfNoEntry: false })?.size ?? 0) === 0) return null;
  const aside = `${log}.${Date.now()}`;
  renameSync(log, aside);
  return `${log} holds the last changes of a database file that is missing: renamed to ${aside}; to complete that file, put it beside the file as its -wal`;
}
