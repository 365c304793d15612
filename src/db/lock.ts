// One server per database file: locks that the kernel releases when their holder ends, however it ends. The one of a file
// beside it says who holds it; the one of the file itself holds where that is removed, and by whatever name (a hard link).
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
 * Where in the file: SQLite locks nothing there, and no file is so long. Not flock, of which network file systems (and
 * other kernels than Linux) make a lock of all bytes: SQLite would wait for ourselves.
 */
const LOCKED_BYTE = 2 ** 48;

/**
 * Makes the file `file` where there is none, locks it until the returned function is called or this process ends, and
 * notes who holds it. Throws StartError with `advice` where another process does, and the system's error where it cannot be opened.
 */
export function lockDatabase(file: string, advice = GIVE_ANOTHER): () => void {
  const there = statSync(file, { throwIfNoEntry: false });
  if (there !== undefined && !there.isFile()) throw new StartError(`${file} is not a file: give --data another path`);
  // Open as long as the database is: to close any descriptor of it takes from the process SQLite's locks of it (POSIX).
  const own = openSync(file, "a", 0o600);
  // Whatever links lead to it, it is one file.
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
 * Where `file` is empty, a write-ahead log beside it belongs to a file that was moved away: SQLite would delete it, or play
 * it into whatever file comes here. Renames it, and returns what is to be told of that; null where there is none. To be
 * called with the lock.
 */
export function setLogAside(file: string): string | null {
  const real = realpathSync(file);
  const log = `${real}-wal`;
  if (statSync(real).size > 0 || (statSync(log, { throwIfNoEntry: false })?.size ?? 0) === 0) return null;
  const aside = `${log}.${Date.now()}`;
  renameSync(log, aside);
  return `${log} holds the last changes of a file that is not there any more: it is ${aside} now; beside that file, as its -wal, it completes it`;
}
