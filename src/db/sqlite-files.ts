// Whether the open database's files are still those that the next start will find under their names: what is stored in
// a file that was removed, moved, replaced or truncated is lost when the server ends.
import type { Database } from "bun:sqlite";
import { closeSync, openSync, readSync, statSync, truncateSync } from "node:fs";
import { checkpoint } from "./sqlite-checkpoint.ts";

/** Minimum intervals between checks, and between reports of trouble. */
const LOOK_MS = 10;
const TELL_MS = 1_000;

export class DatabaseFiles {
  /** The files that were opened, with what identifies each. */
  private readonly opened: [path: string, identity: string][] = [];
  private inPlace = true;
  private lookAt = 0;
  private tellAt = 0;

  /** `db` has just been opened, and `path` is its file, links resolved; `tell` is called with what is wrong. */
  constructor(
    private readonly db: Database,
    private readonly path: string,
    private readonly tell: (trouble: string) => void,
  ) {
    for (const each of [path, `${path}-wal`]) {
      const identity = identify(each);
      if (identity !== null) this.opened.push([each, identity]);
    }
  }

  /**
   * To be asked before each transaction. While it is false all writes fail with SQLITE_READONLY, so that nothing is
   * acknowledged that would be lost; reads go on.
   */
  areInPlace(): boolean {
    const now = performance.now();
    if (now < this.lookAt) return this.inPlace;
    this.lookAt = now + LOOK_MS;
    const amiss = this.findAmiss();
    if (this.inPlace !== (amiss === null)) {
      this.inPlace = amiss === null;
      this.db.run(`PRAGMA query_only = ${this.inPlace ? 0 : 1}`);
    }
    if (amiss !== null && now >= this.tellAt) {
      this.tellAt = now + TELL_MS;
      this.tell(
        `${amiss}: nothing more is stored; put it back, or copy removed files from /proc/${process.pid}/fd and then stop the server`,
      );
      this.copyLog();
    }
    return this.inPlace;
  }

  private findAmiss(): string | null {
    for (const [path, identity] of this.opened)
      if (identify(path, identity) !== identity) return `${path} is no longer the file that was opened`;
    return this.isLogCut() ? `${this.path}-wal was cut off` : null;
  }

  /**
   * Whether the log has lost its beginning. SQLite would go on appending, and copy the zeros now there into the file:
   * damage. So it is emptied here: nothing is copied from an empty log, and without its beginning none could be read.
   */
  private isLogCut(): boolean {
    try {
      if (!isBlank(`${this.path}-wal`)) return false;
      const { log, checkpointed } = checkpoint(this.db, "NOOP");
      if (log === checkpointed) return false;
      truncateSync(`${this.path}-wal`);
      return true;
    } catch {
      return false;
    }
  }

  /** Copies the log into the opened file: if only the log is gone nothing is lost, and a moved file is complete. */
  private copyLog(): void {
    try {
      checkpoint(this.db, "PASSIVE");
    } catch {
      // Tried again the next time.
    }
  }
}

/** Device and inode; null where there is no such file, `unknown` where that cannot be determined. */
function identify(path: string, unknown: string | null = null): string | null {
  try {
    const there = statSync(path, { bigint: true, throwIfNoEntry: false });
    return there === undefined ? null : `${there.dev}:${there.ino}`;
  } catch {
    return unknown;
  }
}

/** Whether a log is empty or begins with zeros. Closing it here drops no locks: SQLite's are on the other files. */
function isBlank(log: string): boolean {
  const fd = openSync(log, "r");
  try {
    const magic = new Uint32Array(1);
    readSync(fd, magic, 0, 4, 0);
    return magic[0] === 0;
  } finally {
    closeSync(fd);
  }
}
