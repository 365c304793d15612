// Checkpoints in a thread of their own: the write-ahead log stays short while commits go on, also without that thread.

import type { Database } from "bun:sqlite";
import { expect, spyOn, test } from "bun:test";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Checkpointer } from "../../src/db/sqlite-checkpoint.ts";
import { openDatabase } from "../../src/db/sqlite-migrate.ts";
import { temporaryFolder, until } from "../harness.ts";

const program = new URL("../../src/checkpoint-worker.ts", import.meta.url);
const PAGES_PER_COMMIT = 100;
/** So long, in pages, the log may be until it is copied; then commits wait a little, and still go on. */
const LONG_LOG = 2 * 8_000;
const MAX_COMMITS = 1_500;

function open(): { db: Database; file: string } {
  const file = join(temporaryFolder(), "chat.db");
  const db = openDatabase(file);
  db.run("CREATE TABLE filler (bytes BLOB)");
  return { db, file };
}

/** Commits until the log has begun anew three times; returns how many commits that took. */
async function fill(db: Database, checkpointer: Checkpointer): Promise<number> {
  db.run("PRAGMA synchronous = OFF"); // what is tested is not the disk
  const insert = db.prepare("INSERT INTO filler VALUES (zeroblob(?))");
  const length = db.prepare<{ log: number }, []>("PRAGMA wal_checkpoint(NOOP)");
  let commits = 0;
  for (let begun = 0, before = 0; begun < 3; commits++) {
    if (commits === MAX_COMMITS) throw new Error(`the log has begun anew ${begun} times in ${commits} commits`);
    insert.run(PAGES_PER_COMMIT * 4_096);
    const { log } = length.get()!;
    if (log < before) begun++;
    before = log;
    checkpointer.look();
    // Where the thread's answers come in.
    await Bun.sleep(log > LONG_LOG ? 20 : 1);
  }
  insert.finalize();
  length.finalize();
  return commits;
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
  const commits = await fill(db, checkpointer);
  await checkpointer.close();
  verify(db, commits);
  db.close();
  // The thread had let go of the file: who closes it last removes the log.
  expect(existsSync(`${file}-wal`)).toBe(false);
}, 60_000);

test("what is little is not copied, and what is being copied is not asked for again", async () => {
  const { db, file } = open();
  const checkpointer = new Checkpointer(db, file, program);
  const posted = spyOn(Worker.prototype, "postMessage");
  let now = 1_000;
  const clock = spyOn(performance, "now").mockImplementation(() => now);
  const look = (pages: number) => {
    db.run("INSERT INTO filler VALUES (zeroblob(?))", [pages * 4_096]);
    now += 1_000;
    checkpointer.look();
    return posted.mock.calls.length;
  };
  try {
    expect([look(1_900), look(200), look(2_100)]).toEqual([0, 1, 1]);
  } finally {
    clock.mockRestore();
    posted.mockRestore();
  }
  await checkpointer.close();
  db.close();
});

test("a thread that ends is not needed", async () => {
  const { db, file } = open();
  const broken = join(resolve(file, ".."), "broken.ts");
  writeFileSync(broken, 'throw new Error("broken");');
  const checkpointer = new Checkpointer(db, file, new URL(`file://${broken}`));
  const commits = await fill(db, checkpointer);
  await checkpointer.close();
  verify(db, commits);
  db.close();
}, 60_000);

test("what the thread cannot copy, the store copies", async () => {
  const { db, file } = open();
  const checkpointer = new Checkpointer(db, join(file, "..", "elsewhere.db"), program);
  const commits = await fill(db, checkpointer);
  await until(() => {
    checkpointer.look();
    return statSync(file).size > 7_500 * 4_096;
  }, "the log is copied");
  await checkpointer.close();
  verify(db, commits);
  db.close();
}, 60_000);
