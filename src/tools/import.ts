// `ChatServer import`: turns the database of the C++ chat server into an embedded store.
import { existsSync, mkdirSync, realpathSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { lockDatabase, setLogAside } from "../db/lock.ts";
import type { MysqlTarget } from "../db/mysql-connection.ts";
import { describe, startErrorOf } from "../db/mysql-start.ts";
import { fileErrorOf } from "../db/sqlite-read.ts";
import { StartError } from "../start-error.ts";
import { importUsers } from "./accounts.ts";
import { importFriends, importGroups } from "./lists.ts";
import { Notes } from "./notes.ts";
import { importOffline } from "./offline.ts";
import { Predecessor } from "./predecessor.ts";
import { say } from "./progress.ts";
import { StoreBuilder } from "./store-builder.ts";

export interface ImportOptions {
  /** The charset under which texts, really UTF-8, were stored; null: texts are what they seem. */
  charset: string | null;
  /** The file for new passwords; null: nobody gets one. */
  newPasswords: string | null;
  /** Cost parameters of password hashes. */
  memoryKiB: number;
  passes: number;
}

/** The state of an import. */
export interface Import {
  source: Predecessor;
  builder: StoreBuilder;
  notes: Notes;
  /** The ids of users already imported. */
  users: Set<number>;
}

/** Creates the store `file`, which must be missing or empty: atomically, once complete. Throws StartError. */
export async function importToFile(from: MysqlTarget, file: string, options: ImportOptions): Promise<void> {
  const fail = (error: unknown) => {
    if (error instanceof StartError) throw error;
    throw new StartError(`${file} cannot be created (${(error as Error).message}): give --data another path`);
  };
  let unlock = () => {};
  /** `file` with links resolved. */
  let real = file;
  let folder = "";
  const wasThere = existsSync(file);
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    if (existsSync(file) && statSync(file).size > 0)
      throw new StartError(`${file} exists: give --data another path, or move it away`);
    unlock = lockDatabase(file, "give --data another path");
    const aside = setLogAside(file);
    if (aside !== null) say(aside);
    real = realpathSync(file);
    folder = `${real}.importing`;
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    unlock();
    fail(error);
  }
  try {
    const made = join(folder, "chat.db");
    await importTo(made, from, options);
    renameSync(made, real);
  } catch (error) {
    if (!wasThere) rmSync(real, { force: true });
    throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
    unlock();
  }
  say(`${file} now holds all of ${describe(from)}: start the server with --data ${file}`);
}

/** Creates the store `file`, in a folder of its own. Throws StartError. */
export async function importTo(file: string, from: MysqlTarget, options: ImportOptions): Promise<void> {
  let source: Predecessor | undefined;
  let builder: StoreBuilder | undefined;
  try {
    source = await Predecessor.open(from, options.charset);
    builder = new StoreBuilder(file);
    const work: Import = { source, builder, notes: new Notes(), users: new Set() };
    // It also distinguishes this import from others (see `stamp` in embedded.ts).
    const secret = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex");
    await builder.tx.insert("setting", ["name", "value"], [["token_secret", secret]]);
    await importUsers(work, options);
    await importFriends(work);
    await importOffline(work, await importGroups(work));
    builder.finish();
    work.notes.tell();
  } catch (error) {
    builder?.close();
    const known = fileErrorOf(file, error);
    throw known instanceof StartError ? known : startErrorOf(known, from, "--from");
  } finally {
    source?.close();
  }
}
