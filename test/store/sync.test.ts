// When the log is synced: before what was written is acknowledged, and not more often; and what follows where that fails.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { copyFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { StoreError } from "../../src/db/db.ts";
import { openSqliteStore } from "../../src/db/sqlite.ts";
import { temporaryFolder, until } from "../harness.ts";
import { more } from "./journal-worker.ts";
import { batch } from "./numbered.ts";

async function open() {
  const file = join(temporaryFolder(), "chat.db");
  const store = await openSqliteStore(file, more, new URL("journal-worker.ts", import.meta.url));
  await store.createUser("ann", "hash");
  return { file, store };
}

/** The names in the file alone, without its log: what is left of it if the log cannot be read. */
function namesIn(file: string): string[] {
  const copy = join(temporaryFolder(), "copy.db");
  copyFileSync(file, copy);
  const db = new Database(copy);
  try {
    if (db.query("SELECT 1 FROM sqlite_schema WHERE name = 'user'").get() === null) return [];
    return db.query("SELECT name FROM user ORDER BY id").values().flat() as string[];
  } finally {
    db.close();
  }
}

async function untilFolded(file: string): Promise<void> {
  const db = new Database(file, { readonly: true });
  db.run("PRAGMA busy_timeout = 5000");
  const journal = db.query("SELECT count(*) FROM journal");
  await until(() => journal.values()[0]![0] === 0, "everything is folded when nobody asks");
  db.close();
}

const reasonOf = (call: Promise<unknown>) => call.catch(({ message }: Error) => message);

test("the log is synced once for what is committed together, and not for reading", async () => {
  const { store } = await open();
  const before = await store.syncs();
  await store.createUser("bob", "hash");
  expect(await store.syncs()).toBe(before + 1);
  await store.append(...batch(0, 1, 1));
  expect(await store.syncs()).toBe(before + 2);
  await Promise.all([
    store.createUser("cid", "hash"),
    store.createUser("dan", "hash"),
    store.append(...batch(1, 5, 1)),
  ]);
  expect(await store.syncs()).toBe(before + 3);
  await Promise.all([store.credentials("id", 1), store.friendsOf(1)]);
  await store.inVain("eve", ...batch(6, 1, 1)).catch(() => undefined);
  await store.close();
});

test("folding is not synced", async () => {
  const { file, store } = await open();
  await store.createUser("bob", "hash");
  for (let i = 0; i < 70; i++) expect(await store.append(...batch(i, 1, 1))).toMatchObject({ refused: [] });
  const before = await store.syncs();
  await untilFolded(file);
  await store.friendsOf(1);
  expect(await store.syncs()).toBe(before);
  await store.createUser("cid", "hash");
  expect(await store.syncs()).toBe(before + 1);
  await store.close();
});

test("what could not be synced is not acknowledged, and copied into the file before anything else is", async () => {
  const { file, store } = await open();
  expect(namesIn(file)).toEqual([]);
  await store.failSyncs(2);
  const refused = await Promise.allSettled([store.createUser("bob", "hash"), store.friendsOf(1)]);
  for (const each of refused) expect(each).toMatchObject({ status: "rejected", reason: expect.any(StoreError) });
  // Somebody who reads what may be lost must not be told either. Copied, but the log is not known to be empty:
  expect(await reasonOf(store.credentials("name", "bob"))).toContain("EIO");
  expect(await store.credentials("name", "bob")).toMatchObject({ id: 2 });
  expect([namesIn(file), statSync(`${file}-wal`).size]).toEqual([["ann", "bob"], 0]);
  // From then on as before.
  const before = await store.syncs();
  await store.createUser("cid", "hash");
  expect([await store.syncs(), namesIn(file)]).toEqual([before + 1, ["ann", "bob"]]);
  await store.close();
});

test("folding does not make up for a sync that failed", async () => {
  const { file, store } = await open();
  await store.createUser("bob", "hash");
  await store.failSyncs(1);
  expect(await reasonOf(store.append(...batch(0, 1, 1)))).toContain("EIO");
  await untilFolded(file);
  expect(namesIn(file)).toEqual([]);
  await store.friendsOf(1);
  expect(namesIn(file)).toEqual(["ann", "bob"]);
  await store.close();
});

test("while it cannot be copied nothing is answered", async () => {
  const { file, store } = await open();
  await store.waitForLocks(20);
  const reader = new Database(file);
  reader.run("BEGIN");
  reader.query("SELECT count(*) FROM user").get();
  await store.failSyncs(1);
  expect(await reasonOf(store.createUser("bob", "hash"))).toBe("EIO: the disk is broken");
  for (let i = 0; i < 2; i++) expect(await reasonOf(store.credentials("name", "bob"))).toContain("cannot be copied");
  reader.close();
  expect(await store.credentials("name", "bob")).toMatchObject({ id: 2 });
  expect(namesIn(file)).toEqual(["ann", "bob"]);
  await store.close();
});
