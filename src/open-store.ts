// Opens the store chosen by the options: the embedded database, or a shared one.
import { hostname } from "node:os";
import { resolve } from "node:path";
import { NONE, type Options } from "./cli.ts";
import type { Shared, Store } from "./db/db.ts";
import { limitCalls } from "./db/deadline.ts";
import { openMysqlStore } from "./db/mysql.ts";
import { describe, withPassword } from "./db/mysql-start.ts";
import { openSqliteStore } from "./db/sqlite.ts";
import { writers } from "./model/plan.ts";
import { operations } from "./model/store.ts";
import type { Log } from "./service/log.ts";

export interface OpenedStore {
  store: Store<typeof operations> & Partial<Shared>;
  /** For the log: what and where it is, without a password. */
  description: string;
}

/** Not time-limited here, since what they store late must still be delivered: their callers limit the time. */
const DELIVERED = ["append", "addFriend", "joinGroup"];

/** `onDead` is called with the reason if the embedded store can never answer again. Throws StartError. */
export async function openStore(options: Options, log: Log, onDead: (why: string) => void): Promise<OpenedStore> {
  const storeTimeoutMs = options.storeTimeout * 1000;
  const limited = Object.keys(operations).filter((name) => !DELIVERED.includes(name));
  if (options.mysql === null) {
    const file = resolve(options.data);
    const thread = new URL("./store-worker.ts", import.meta.url);
    const store = await openSqliteStore(file, operations, thread, onDead, (what) => log.warn(what));
    return { store: limitCalls(store, limited, storeTimeoutMs), description: `SQLite ${file}` };
  }
  const { mysqlPasswordFile } = options;
  const target = withPassword(options.mysql, mysqlPasswordFile === NONE ? undefined : mysqlPasswordFile);
  const address = `${hostname()}:${options.port}`;
  const store = await openMysqlStore({ target, address, storeTimeoutMs, log }, operations, writers);
  const description = `MySQL ${describe(target)}`;
  return { store: limitCalls(store, limited, storeTimeoutMs), description };
}
