// Checkpoints in a thread of their own: the write-ahead log stays short while commits go on, also without that thread.

import type { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Checkpointer } from "../../src/db/sqlite-checkpoint.ts";
import { openDatabase } from "../../src/db/sqlite-migrate.ts";
import { temporaryFolder, until } from "../harness.ts";

const program = new URL("../../src/checkpoint-worker.ts", import.meta.url);
const PAGES_PER_COMMIT = 100;
/** What the log may take of the disk: until it begins anew, and what is committed while others are copied. */
const LOG_BYTES = 2 * 8_000 * 4_120;

function open(): { db: Database; file: string } {
  const file = join(temporaryFolder(), "chat.db");
  const db = openDatabase(file);
  db.run("CREATE TABLE filler (bytes BLOB)");
  return { db, file };
}

/** Commits 160 MiB, five times the length at which the log begins anew, and returns the longest that the log was, in bytes. */
async function fill(db: Database, file: string, checkpointer: Checkpointer): Promise<number> {
  db.run("PRAGMA synchronous = OFF"); // what is tested is not the disk
  const insert = db.prepare("INSERT INTO filler VALUES (zeroblob(?))");
  let longest = 0;
  for (let commits = 0; commits < 400; commits++) {
    insert.run(PAGES_PER_COMMIT * 4_096);
    checkpointer.look();
    // Where the thread's answers come in.
    await Bun.sleep(1);
    longest = Math.max(longest, statSync(`${file}-wal`).size);
  }
  insert.finalize();
  return longest;
}

function verify(db: Database, commits: number): void {
  expect(db.query("SELECT count(*) AS count, min(length(bytes)) AS least FROM filler").get()).toEqual({
    count: commits,
    least: PAGES_PER_COMMIT * 4_096,
  });
  expect(db.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
}

test("the log is copied into the file, and begins anew, while commits go on", async () => {
  const { db, file } = open();
  const checkpointer = new Checkpointer(db, file, program);
  expect(await fill(db, file, checkpointer)).toBeLessThan(LOG_BYTES);
  await checkpointer.close();
  verify(db, 400);
  db.close();
  // The thread had let go of the file: who closes it last removes the log.
  expect(existsSync(`${file}-wal`)).toBe(false);
}, 60_000);

test("a thread that ends is not needed", async () => {
  const { db, file } = open();
  const broken = join(resolve(file, ".."), "broken.ts");
  writeFileSync(broken, 'throw new Error("broken");');
  const checkpointer = new Checkpointer(db, file, new URL(`file://${broken}`));
  expect(await fill(db, file, checkpointer)).toBeLessThan(LOG_BYTES);
  await checkpointer.close();
  verify(db, 400);
  db.close();
}, 60_000);

test("what the thread cannot copy, the store copies", async () => {
  const { db, file } = open();
  const checkpointer = new Checkpointer(db, join(file, "..", "elsewhere.db"), program);
  await fill(db, file, checkpointer);
  await until(() => {
    checkpointer.look();
    return statSync(file).size > 7_500 * 4_096;
  }, "the log is copied");
  await checkpointer.close();
  verify(db, 400);
  db.close();
}, 60_000);
