// Opens the embedded database and brings its schema up to date. Runs inside the store's worker thread.
import { Database } from "bun:sqlite";
import initial from "../../sql/sqlite/0001-initial.sql" with { type: "text" };
import ranges from "../../sql/sqlite/0002-mid-ranges.sql" with { type: "text" };
import columns from "../../sql/sqlite/0003-columns.sql" with { type: "text" };
import series from "../../sql/sqlite/0004-series.sql" with { type: "text" };
import runEnds from "../../sql/sqlite/0005-run-ends.sql" with { type: "text" };
import deviceTimes from "../../sql/sqlite/0006-device-times.sql" with { type: "text" };
import { StartError } from "../start-error.ts";

/** In order, numbered from 1; `user_version` is the number of the last one applied to a file. */
const MIGRATIONS: string[] = [initial, ranges, columns, series, runEnds, deviceTimes];
export const SCHEMA_VERSION = MIGRATIONS.length;
/** "Chat", in the file's header: marks it as a ChatServer's. */
export const APPLICATION_ID = 0x43686174;

/** Advice for messages. Left in place, the old file's log would be applied to the backup by SQLite. */
export const restore = (file: string): string => `restore a backup (after removing ${file}-wal and ${file}-shm)`;
export const damaged = (file: string): string =>
  `${file} is damaged: salvage it with "sqlite3 ${file} .recover", or ${restore(file)}`;

/** Throws StartError, saying what to do, where the file cannot be used. */
export function openDatabase(file: string): Database {
  let db: Database | undefined;
  try {
    db = new Database(file, { create: true, readwrite: true });
    db.run("PRAGMA busy_timeout = 5000");
    refuseStrange(db, file);
    const { journal_mode } = db.query("PRAGMA journal_mode = WAL").get() as { journal_mode: string };
    if (journal_mode !== "wal")
      throw new StartError(`${file}: write-ahead logging is not possible on this file system`);
    // Commits are synced by LogSync.
    db.run("PRAGMA synchronous = NORMAL");
    db.run("PRAGMA cache_size = -32768");
    db.run("PRAGMA temp_store = MEMORY");
    db.run("PRAGMA wal_autocheckpoint = 2000");
    db.run("PRAGMA journal_size_limit = 67108864");
    migrate(db);
    probe(db);
    return db;
  } catch (error) {
    db?.close();
    throw unusable(file, error as Error);
  }
}

/** An error of `file` as one line that says what to do. */
export const unusable = (file: string, error: Error): StartError =>
  error instanceof StartError ? error : new StartError(explain(file, error));

const seenBy = (db: Database): number =>
  (db.query("PRAGMA user_version").get() as { user_version: number }).user_version;

/** Called before anything is written: what is not ours stays untouched. */
function refuseStrange(db: Database, file: string): void {
  const { application_id } = db.query("PRAGMA application_id").get() as { application_id: number };
  const { tables } = db.query("SELECT count(*) AS tables FROM sqlite_schema").get() as { tables: number };
  if (application_id !== APPLICATION_ID && (application_id !== 0 || tables > 0))
    throw new StartError(`${file} is another program's database: give --data another path`);
  if (seenBy(db) > MIGRATIONS.length)
    throw new StartError(
      `${file} was written by a newer ChatServer (schema ${seenBy(db)}): run that version, or ${restore(file)}`,
    );
}

function migrate(db: Database): void {
  for (let version = seenBy(db); version < MIGRATIONS.length; version++)
    db.transaction(() => {
      db.run(MIGRATIONS[version]!);
      db.run(`PRAGMA application_id = ${APPLICATION_ID}`);
      db.run(`PRAGMA user_version = ${version + 1}`);
    }).immediate();
}

/** Reads a row of each table and the newest of growing ones: most truncated or damaged files are noticed at start. */
function probe(db: Database): void {
  const tables = db.query("SELECT name FROM sqlite_schema WHERE type = 'table'").all() as { name: string }[];
  for (const { name } of tables) db.query(`SELECT * FROM ${name} LIMIT 1`).all();
  db.query("SELECT max(id) FROM user").get();
  db.query("SELECT max(id) FROM run").get();
}

function explain(file: string, { code = "", message }: Error & { code?: string }): string {
  if (code === "SQLITE_NOTADB") return `${file} is not a database: give --data another path, or ${restore(file)}`;
  // An error without a code means that what was read makes no sense.
  if (code.startsWith("SQLITE_CORRUPT") || code === "") return damaged(file);
  if (code.startsWith("SQLITE_CANTOPEN") || code.startsWith("SQLITE_READONLY"))
    return `${file} cannot be opened for writing: check the path and its permissions, or give --data another path`;
  if (code === "SQLITE_FULL") return `${file}: the disk is full: free some space, or give --data another path`;
  if (code.startsWith("SQLITE_BUSY")) return `${file} is locked by another program: close it and start again`;
  if (code.startsWith("SQLITE_IOERR")) return `${file} cannot be read or written (${code}): check its disk`;
  return `${file}: ${message} (${code})`;
}
