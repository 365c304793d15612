// Makes commits durable: after a commit, and before it is answered, the write-ahead log is synced here. SQLite's own way
// (PRAGMA synchronous = FULL) is fsync, which also writes the log's new time of modification: on a file system with a
// journal that is another transaction, and another wait for the disk, whenever the clock has ticked since (4 ms).
import type { Database } from "bun:sqlite";
import { closeSync, openSync } from "node:fs";
import { checkpoint } from "./sqlite-checkpoint.ts";

export class LogSync {
  private readonly fd: number;
  /** SQLite's count of changed rows, as of the last commit that is synced, or need not be. */
  private changes = 0;
  /** A sync has failed. The system forgets what it could not write: syncing again would succeed, and write nothing. */
  private failed = false;

  /** `log` is the log of the open database `db`; `syncFile` is fdatasync, except in tests. */
  constructor(
    private readonly db: Database,
    log: string,
    private readonly syncFile: (fd: number) => void,
  ) {
    this.fd = openSync(log, "r");
    this.skip();
  }

  /** To be called after a commit that is to be answered. Throws if what was committed so far may not be on the disk. */
  sync(): void {
    const changes = this.count();
    const { failed } = this;
    if (changes === this.changes && !failed) return;
    this.failed = true;
    if (failed) this.rewrite();
    else this.syncFile(this.fd);
    this.failed = false;
    this.changes = changes;
  }

  /** To be called after a commit that need not be durable. */
  skip(): void {
    this.changes = this.count();
  }

  close(): void {
    closeSync(this.fd);
  }

  /** Copies all that the log holds into the database's file, which is synced, and empties the log. */
  private rewrite(): void {
    if (checkpoint(this.db, "TRUNCATE").busy !== 0) throw new Error("the log cannot be copied after a failed sync");
    // Otherwise what the disk has of it might be replayed into the file after a crash.
    this.syncFile(this.fd);
  }

  private count(): number {
    return this.db.query("SELECT total_changes()").values()[0]![0] as number;
  }
}
