// Opens a store's file for tools that only read it, while no server uses it.
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { StartError } from "../start-error.ts";
import { StoreError } from "./db.ts";
import { lockDatabase } from "./lock.ts";
import { APPLICATION_ID, damaged, SCHEMA_VERSION } from "./sqlite-migrate.ts";

export interface ReadStore {
  db: Database;
  close(): void;
}

/** Locks and opens a server's file. Throws StartError where it is in use, or not a store of this program's schema. */
export function openForReading(file: string): ReadStore {
  if (!existsSync(file)) throw new StartError(`${file} does not exist: give the server's --data file`);
  const unlock = explained(file, () => lockDatabase(file, "stop that server first"));
  let db: Database | undefined;
  try {
    return explained(file, () => {
      // Not read-only: what a killed server left in the write-ahead log must be recovered.
      db = new Database(file, { create: false, readwrite: true });
      db.run("PRAGMA busy_timeout = 5000");
      refuseStrange(db, file);
      db.run("PRAGMA query_only = 1");
      db.run("PRAGMA cache_size = -32768");
      const close = () => {
        db!.close();
        unlock();
      };
      return { db, close };
    });
  } catch (error) {
    db?.close();
    unlock();
    throw error;
  }
}

function refuseStrange(db: Database, file: string): void {
  const { application_id } = db.query("PRAGMA application_id").get() as { application_id: number };
  if (application_id !== APPLICATION_ID) throw new StartError(`${file} is not a ChatServer's store`);
  const { user_version } = db.query("PRAGMA user_version").get() as { user_version: number };
  if (user_version > SCHEMA_VERSION)
    throw new StartError(
      `${file} has schema ${user_version}, newer than this program's: use the ChatServer that wrote it`,
    );
  if (user_version < SCHEMA_VERSION)
    throw new StartError(`${file} has schema ${user_version}: start this ChatServer on it once to upgrade it`);
}

/** Runs `work`; errors of SQLite or the system become a line that says what to do. */
function explained<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw fileErrorOf(file, error);
  }
}

/** An error met in working with `file`, explained if it concerns the file; otherwise returned as it is. */
export function fileErrorOf(file: string, error: unknown): unknown {
  // It comes from another database.
  if (error instanceof StoreError) return error;
  const { code = "", message } = error as Error & { code?: string };
  if (code === "SQLITE_NOTADB") return new StartError(`${file} is not a database`);
  if (code.startsWith("SQLITE_CORRUPT")) return new StartError(damaged(file));
  if (/^(SQLITE_|E[A-Z]+$)/.test(code))
    return new StartError(`${file} cannot be read (${message}): check the path, its permissions and its disk`);
  return error;
}
