// One server per database file: a lock beside it that the kernel releases when its holder ends, however it ends.
import { closeSync, ftruncateSync, openSync, readFileSync, realpathSync, statSync, writeSync } from "node:fs";
import { lockFile } from "../libc.ts";
import { StartError } from "../start-error.ts";

const GIVE_ANOTHER = "give this one another --data file (a cluster of several servers shares MySQL and Redis instead)";

/**
 * Makes the file `file` where there is none (unless another one's last changes lie there), locks it until the returned function is called or this process ends, and
 * notes who holds it. Throws StartError with `advice` where another process does, and the system's error where it cannot be opened.
 */
export function lockDatabase(file: string, advice = GIVE_ANOTHER): () => void {
  const there = statSync(file, { throwIfNoEntry: false });
  if (there !== undefined && !there.isFile()) throw new StartError(`${file} is not a file: give --data another path`);
  const log = `${there === undefined ? file : realpathSync(file)}-wal`;
  // SQLite would delete it, or play it into whatever file comes here.
  if ((there?.size ?? 0) === 0 && (statSync(log, { throwIfNoEntry: false })?.size ?? 0) > 0)
    throw new StartError(
      `${log} holds the last changes of a file that was moved away: move it after that one, or delete it`,
    );
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
