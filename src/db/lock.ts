// One server per database file: a lock beside it that the kernel releases when its holder ends, however it ends.
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
import { lockFile } from "../libc.ts";
import { StartError } from "../start-error.ts";

const GIVE_ANOTHER = "give this one another --data file (a cluster of several servers shares MySQL and Redis instead)";

/**
 * Makes the file `file` where there is none, locks it until the returned function is called or this process ends, and
 * notes who holds it. Throws StartError with `advice` where another process does, and the system's error where it cannot be opened.
 */
export function lockDatabase(file: string, advice = GIVE_ANOTHER): () => void {
  const there = statSync(file, { throwIfNoEntry: false });
  if (there !== undefined && !there.isFile()) throw new StartError(`${file} is not a file: give --data another path`);
  closeSync(openSync(file, "a", 0o600));
  // Whatever links lead to it, it is one file.
  const path = `${realpathSync(file)}.lock`;
  const fd = openSync(path, "a+", 0o600);
  if (!lockFile(fd)) {
    const holder = readFileSync(path, "utf8").trim();
    closeSync(fd);
    throw new StartError(`${file} is in use by ${holder || "another server"}: ${advice}`);
  }
  ftruncateSync(fd);
  writeSync(fd, `process ${process.pid}\n`, 0);
  return () => closeSync(fd);
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
