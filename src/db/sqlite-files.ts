// Whether the open database's files are still those that the next start will find under their names: what is stored in a
// file that was removed, moved, replaced or cut off is lost when the server ends.
import type { Database } from "bun:sqlite";
import { closeSync, openSync, readSync, statSync, truncateSync } from "node:fs";
import { checkpoint } from "./sqlite-checkpoint.ts";

/** How often they are looked at, at most, and how often it is told that they are others. */
const LOOK_MS = 10;
const TELL_MS = 1_000;

export class DatabaseFiles {
  /** The files that were opened, with what tells each from others of its name. */
  private readonly opened: [path: string, identity: string][] = [];
  private inPlace = true;
  private lookAt = 0;
  private tellAt = 0;

  /** `db` has just been opened, and `path` is its file's, links followed; `tell` is told which file is another now. */
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
   * To be asked before a transaction. While the answer is false everything that writes fails with SQLITE_READONLY, so that
   * nothing is acknowledged that would be lost, and what only reads goes on.
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
        `${amiss}: nothing is stored any more; put it back, or stop the server (what was removed can be copied from /proc/${process.pid}/fd before)`,
      );
      this.copyLog();
    }
    return this.inPlace;
  }

  private findAmiss(): string | null {
    for (const [path, identity] of this.opened)
      if (identify(path, identity) !== identity) return `${path} is not the file any more that was opened`;
    return this.isLogCut() ? `${this.path}-wal was cut off` : null;
  }

  /**
   * SQLite appends to a log without its beginning, and would copy what is zero there now into the file: damage. It is emptied
   * here, since of an empty one nothing can be copied, and nothing of it can be read without its beginning.
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

  /** Into the file that was opened: where the log alone is gone nothing is lost, and a file that is elsewhere is complete. */
  private copyLog(): void {
    try {
      checkpoint(this.db, "PASSIVE");
    } catch {
      // The next time.
    }
  }
}

/** Device and inode, null where there is no such file, and `unknown` where that cannot be told. */
function identify(path: string, unknown: string | null = null): string | null {
  try {
    const there = statSync(path, { bigint: true, throwIfNoEntry: false });
    return there === undefined ? null : `${there.dev}:${there.ino}`;
  } catch {
    return unknown;
  }
}

/** Whether a log begins with zeros, or is empty. That it is closed takes no lock away: SQLite's are of the other files. */
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
