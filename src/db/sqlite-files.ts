// Whether the open database's files are still those that the next start will find under their names: what is stored in a
// file that was removed, moved or replaced is lost when the server ends.
import type { Database } from "bun:sqlite";
import { statSync } from "node:fs";

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
    path: string,
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
    const other = this.opened.find(([path, identity]) => identify(path, identity) !== identity)?.[0];
    if (this.inPlace !== (other === undefined)) {
      this.inPlace = other === undefined;
      this.db.run(`PRAGMA query_only = ${this.inPlace ? 0 : 1}`);
    }
    if (other !== undefined && now >= this.tellAt) {
      this.tellAt = now + TELL_MS;
      this.tell(
        `${other} is not the file any more that was opened: nothing is stored until it is; put it back, or stop the server (what was removed can be copied from /proc/${process.pid}/fd before)`,
      );
      this.copyLog();
    }
    return this.inPlace;
  }

  /** Into the file that was opened: where the log alone is gone nothing is lost, and a file that is elsewhere is complete. */
  private copyLog(): void {
    try {
      this.db.run("PRAGMA wal_checkpoint(PASSIVE)");
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
