// The embedded database opened by tools that only read it: they change nothing, keep servers away meanwhile, and refuse in one
// line what they cannot read, without a trace.
import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StoreError } from "../../src/db/db.ts";
import { lockDatabase } from "../../src/db/lock.ts";
import { openDatabase, SCHEMA_VERSION } from "../../src/db/sqlite-migrate.ts";
import { fileErrorOf, openForReading } from "../../src/db/sqlite-read.ts";
import { StartError } from "../../src/start-error.ts";
import { temporaryFolder } from "../harness.ts";

/** A store that has been closed, after these statements. */
function store(...statements: string[]): string {
  const file = join(temporaryFolder(), "chat.db");
  const db = openDatabase(file);
  for (const statement of statements) db.run(statement);
  db.close();
  return file;
}

const isFree = (file: string): boolean => {
  lockDatabase(file)();
  return !existsSync(`${file}-wal`) && !existsSync(`${file}-shm`);
};

test("a store is read and not changed, and no server can have it meanwhile", () => {
  const file = store("INSERT INTO user (name, password) VALUES ('ann', 'hash')");
  const { db, close } = openForReading(file);
  expect(db.query("SELECT name FROM user").all()).toEqual([{ name: "ann" }]);
  expect(() => db.run("DELETE FROM user")).toThrow("readonly");
  expect(() => lockDatabase(file)).toThrow("in use");
  close();
  expect(isFree(file)).toBe(true);
});

test.each([
  ["of an earlier schema", "PRAGMA user_version = 1", "has schema 1: start this ChatServer on it once to upgrade it"],
  [
    "of a later schema",
    `PRAGMA user_version = ${SCHEMA_VERSION + 1}`,
    `has schema ${SCHEMA_VERSION + 1}, newer than this program's: use the ChatServer that wrote it`,
  ],
  ["of another program", "PRAGMA application_id = 5", "is not a ChatServer's store"],
])("a file %s is refused, and left as it was", (_, statement, says) => {
  const file = store(statement);
  const before = readFileSync(file);
  expect(() => openForReading(file)).toThrow(new StartError(`${file} ${says}`));
  expect(isFree(file)).toBe(true);
  expect(readFileSync(file).equals(before)).toBe(true);
});

test("what is no database, is damaged, in use or missing is refused with what to do", () => {
  const text = join(temporaryFolder(), "text");
  expect(() => openForReading(text)).toThrow(new StartError(`${text} does not exist: give the server's --data file`));
  writeFileSync(text, "no database at all, ".repeat(100));
  expect(() => openForReading(text)).toThrow(new StartError(`${text} is not a database`));
  expect(isFree(text)).toBe(true);
  const file = store();
  const unlock = lockDatabase(file);
  expect(() => openForReading(file)).toThrow("stop that server first");
  unlock();
  const bytes = readFileSync(file);
  writeFileSync(file, bytes.fill(0xff, 100, 4_096));
  expect(() => openForReading(file)).toThrow(`${file} is damaged: `);
  expect(() => lockDatabase(file)()).not.toThrow();
});

test("an error of the system is told with its file, and what the file has no part in stays as it is", () => {
  const told = fileErrorOf("x", Object.assign(new Error("not permitted"), { code: "EACCES" }));
  expect(told).toEqual(
    new StartError("x cannot be read (not permitted): check the path, its permissions and its disk"),
  );
  const full = fileErrorOf("x", Object.assign(new Error("disk I/O error"), { code: "SQLITE_IOERR" }));
  expect(full).toEqual(
    new StartError("x cannot be read (disk I/O error): check the path, its permissions and its disk"),
  );
  for (const other of [
    Object.assign(new StoreError("gone"), { code: "ECONNRESET" }),
    Object.assign(new Error("no table"), { code: "ER_NO_SUCH_TABLE" }),
    new TypeError("a bug"),
  ])
    expect(fileErrorOf("x", other)).toBe(other);
});
