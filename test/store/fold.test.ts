// The log by hand, in this thread: what is undone leaves nothing behind, and folding comes in portions, each of which may
// be the last before a crash.
import { expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import type { LogRow } from "../../src/db/db.ts";
import { single } from "../../src/db/series.ts";
import { openDatabase } from "../../src/db/sqlite-migrate.ts";
import { SqliteTx } from "../../src/db/sqlite-tx.ts";
import { directConv, MsgId } from "../../src/protocol.ts";
import { StoreBuilder } from "../../src/tools/store-builder.ts";
import { temporaryFolder } from "../harness.ts";

/** A log in this thread, with the transactions by hand. */
async function byHand() {
  const db = openDatabase(join(temporaryFolder(), "chat.db"));
  db.run("INSERT INTO conversation (kind, lo, hi) VALUES (0, 1, 2)");
  const { log, folder } = new SqliteTx(db);
  const row = (seq: number, mid = `m${seq}`): LogRow => [1, seq, MsgId.chat, 1, 0, mid, 1_000, `text ${seq}`];
  const commit = async (...rows: LogRow[]) => {
    db.run("BEGIN");
    expect(await log.append(rows.map(single))).toBe(true);
    log.record();
    db.run("COMMIT");
    log.committed();
  };
  const seqs = async () => (await log.page(1, 0, 1_000, 1_000_000)).map((each) => each[1]);
  return { db, log, folder, row, commit, seqs };
}

test("an operation or a transaction that is undone leaves no row and no mid behind", async () => {
  const { db, log, row, commit, seqs } = await byHand();
  await commit(row(1), row(2));
  db.run("BEGIN");
  await log.append([single(row(3))]);
  const mark = log.mark();
  await log.append([single(row(4)), single(row(5))]);
  log.undo(mark);
  expect(await seqs()).toEqual([1, 2, 3]);
  log.undo(0);
  db.run("ROLLBACK");
  expect(await seqs()).toEqual([1, 2]);
  expect(log.size).toBe(2);
  await commit(row(3), row(4));
  expect(await log.append([single(row(5, "m1"))])).toBe(false);
  expect(await log.append([single(row(5)), single(row(6, "m5"))])).toBe(false);
  expect(await seqs()).toEqual([1, 2, 3, 4]);
  expect((await log.byMid([[1, 1, "m4"]])).map((each) => each[1])).toEqual([4]);
});

test("a conversation that was made in a transaction that is undone is not remembered", async () => {
  const { db, log } = await byHand();
  const make = async (lo: number, hi: number) => {
    db.run("BEGIN");
    const conv = directConv(lo, hi);
    await log.create([conv]);
    return (await log.named([conv])).get(conv)!;
  };
  const undone = await make(3, 4);
  log.undo(0);
  db.run("ROLLBACK");
  const made = await make(5, 6);
  db.run("COMMIT");
  log.committed();
  expect(made.id).toBe(undone.id);
  const known = await log.named(["u:3-4", "u:5-6"]);
  expect([...known].map(([conv, { id }]) => [conv, id])).toEqual([["u:5-6", made.id]]);
});

test("a fold that is rolled back is done again by the next one", async () => {
  const { db, log, folder, row, commit, seqs } = await byHand();
  await commit(...Array.from({ length: 100 }, (_, i) => row(i + 1)));
  const all = Array.from({ length: 100 }, (_, i) => i + 1);
  db.run("BEGIN");
  folder.fold(50);
  db.run("ROLLBACK");
  folder.rolledBack();
  expect(await seqs()).toEqual(all);
  for (let portion = 0; log.size > 0 && portion < 10; portion++) {
    db.run("BEGIN");
    folder.fold(50);
    db.run("COMMIT");
    folder.committed();
    expect(await seqs()).toEqual(all);
    // One that is folded first, and one that is last.
    for (const mid of ["m7", "m99"]) expect(await log.append([single(row(101, mid))])).toBe(false);
  }
  expect(log.size).toBe(0);
  expect(db.query("SELECT count(*) AS count FROM journal").get()).toEqual({ count: 0 });
  await commit(row(101));
  expect(await seqs()).toEqual([...all, 101]);
  expect((await log.page(1, 98, 2, 1_000)).map((each) => each[1])).toEqual([99, 100]);
  expect(await log.countOf(0, 1, 90)).toBe(11);
});

/** Appends `each` rows to every one of `conversations` conversations, of which those up to seq `folded` are folded. */
async function fill(tx: SqliteTx, conversations: number, each: number, text = "text", folded = 0): Promise<void> {
  const logs = Array.from({ length: conversations }, (_, i) => i + 1);
  const next = tx.log.current(logs.map((id) => ({ id, last_seq: folded })));
  for (let i = 1; i <= each; i++)
    await tx.log.append(next.map(({ id, last_seq }) => single([id, last_seq + i, MsgId.chat, 1, 1, null, i, text])));
  tx.log.record();
  tx.log.committed();
}

test("a run is read from the tables once, however small the pages are and however many conversations are read in turn", async () => {
  const tx = new SqliteTx(openDatabase(join(temporaryFolder(), "chat.db")));
  const all = Array.from({ length: 50 }, (_, i) => i + 1);
  const foldAll = () => {
    tx.folder.fold(Number.POSITIVE_INFINITY);
    tx.folder.committed();
  };
  await fill(tx, all.length, 80, "t".repeat(200));
  foldAll();
  await tx.log.append(all.map((id) => single([id, 81, MsgId.chat, 1, 1, null, 81, "text"])));
  const { runs } = tx.prepare("SELECT count(*) AS runs FROM run").get() as { runs: number };
  expect(runs).toBe(2 * all.length);
  let reads = 0;
  const prepare = tx.prepare.bind(tx);
  tx.prepare = (sql) => {
    if (sql.includes("FROM run")) reads++;
    return prepare(sql);
  };
  const readOn = async (from: number, to: number) => {
    for (let after = from - 1; after < to; after++)
      for (const conversation of all)
        expect((await tx.log.page(conversation, after, 1, 1)).map(([id, seq]) => [id, seq])).toEqual([
          [conversation, after + 1],
        ]);
  };
  await readOn(1, 81);
  expect(reads).toBe(runs);
  // What is folded behind a run that is held follows it, and what was read before is found again.
  foldAll();
  await readOn(60, 81);
  expect((await tx.log.page(1, 0, 100, 100_000)).map(([, seq]) => seq)).toEqual(
    Array.from({ length: 81 }, (_, i) => i + 1),
  );
});

test("few rows each of many conversations are gathered for longer than many rows each of a few", async () => {
  const [few, many] = [20, 5_000].map(() => new SqliteTx(openDatabase(join(temporaryFolder(), "chat.db"))));
  await fill(few!, 20, 800);
  expect(few!.folder.due).toBe(false);
  await fill(few!, 20, 200);
  expect(few!.folder.due).toBe(true);
  await fill(many!, 5_000, 4);
  expect(many!.folder.due).toBe(false);
  await fill(many!, 5_000, 2);
  expect(many!.folder.due).toBe(true);
  // However few the rows are, each of these conversations makes work of its own.
  foldPortion(many!);
  expect(countOf(many!, "run")).toBeLessThan(30);
  while (many!.folder.pending) foldPortion(many!);
  // None has been divided, and neighbours lie side by side.
  const ends = many!.prepare("SELECT conversation, run FROM run_end ORDER BY conversation").values();
  expect(ends).toEqual(Array.from({ length: 5_000 }, (_, i) => [i + 1, i + 1]));
});

test.each([
  ["texts", "t".repeat(100), null],
  ["mids", "", "m".repeat(60)],
  ["neither", "", null],
])("runs are about as long, whatever they consist of: %s", async (_, text, mid) => {
  const tx = new SqliteTx(openDatabase(join(temporaryFolder(), "chat.db")));
  for (let seq = 1; seq <= 3_000; seq++)
    await tx.log.append([single([1, seq, MsgId.chat, 1, 1, mid && `${mid}${1_000 + seq}`, seq, text])]);
  tx.log.record();
  tx.log.committed();
  foldPortion(tx, Number.POSITIVE_INFINITY);
  const { longest } = tx.prepare("SELECT max(length(rows)) AS longest FROM run").get() as { longest: number };
  expect(longest).toBeGreaterThan(7_000);
  expect(longest).toBeLessThan(14_000);
});

/** Folds a portion in a transaction of its own. */
function foldPortion(tx: SqliteTx, most?: number): void {
  tx.prepare("BEGIN").run();
  tx.folder.fold(most);
  tx.prepare("COMMIT").run();
  tx.folder.committed();
}

const countOf = (tx: SqliteTx, table: string) =>
  (tx.prepare(`SELECT count(*) AS count FROM ${table}`).get() as { count: number }).count;

test("what is folded is deleted from the journal in portions; what is left there is not read twice", async () => {
  const db = openDatabase(join(temporaryFolder(), "chat.db"));
  const tx = new SqliteTx(db);
  db.run("INSERT INTO conversation (kind, lo, hi) VALUES (0, 1, 2)");
  for (let i = 0; i < 1_600; i++) await fill(tx, 1, 1);
  foldPortion(tx, Number.POSITIVE_INFINITY);
  await tx.log.append([single([1, 1_601, MsgId.chat, 1, 1, null, 1, "later"])]);
  tx.log.record();
  tx.log.committed();
  const seqs = async (log = tx.log) => (await log.page(1, 0, 2_000, 1_000_000)).map((row) => row[1]);
  const all = Array.from({ length: 1_601 }, (_, i) => i + 1);
  for (let left = 1_500; left > 0; left -= 100) {
    // What is journalled meanwhile stays.
    expect([countOf(tx, "journal"), tx.folder.pending]).toEqual([left + 1, true]);
    const restarted = new SqliteTx(db);
    restarted.log.replay();
    expect([restarted.log.size, await seqs(restarted.log)]).toEqual([1, all]);
    foldPortion(tx);
  }
  expect(await seqs()).toEqual(all);
  expect([countOf(tx, "journal"), tx.folder.pending]).toEqual([1, true]);
  // With nothing left to fold, and one record beyond a portion.
  for (let i = 0; i < 64; i++) await fill(tx, 1, 1);
  foldPortion(tx, Number.POSITIVE_INFINITY);
  expect([tx.log.size, countOf(tx, "journal"), tx.folder.pending]).toEqual([0, 1, true]);
  foldPortion(tx);
  expect([countOf(tx, "journal"), tx.folder.pending]).toEqual([0, false]);
});

test("rows that gather slowly are folded in small portions with pauses, and those that gather fast without", async () => {
  let now = 10_000;
  const clock = spyOn(performance, "now").mockImplementation(() => now);
  const tx = new SqliteTx(openDatabase(join(temporaryFolder(), "chat.db")));
  const fold = () => {
    const before = tx.log.size;
    foldPortion(tx);
    return { small: before - tx.log.size < 500, due: tx.folder.due };
  };
  // What has been begun is gone on with, however little is left.
  const foldAll = () => {
    for (; tx.folder.pending; now += 2) {
      expect(tx.folder.due).toBe(true);
      foldPortion(tx);
    }
  };
  try {
    await fill(tx, 20, 1_000);
    expect(fold()).toEqual({ small: true, due: false });
    now += 2;
    expect(tx.folder.due).toBe(true);
    // Too much has gathered meanwhile.
    await fill(tx, 20, 1_000);
    expect(fold()).toEqual({ small: false, due: true });
    foldAll();
    // Soon after the last pass.
    now += 700;
    await fill(tx, 20, 1_000, "text", 2_000);
    expect(fold()).toEqual({ small: false, due: true });
    foldAll();
    now += 800;
    await fill(tx, 20, 1_000, "text", 3_000);
    expect(fold()).toEqual({ small: true, due: false });
    // After a failure there is a longer pause.
    tx.folder.rolledBack();
    now += 900;
    expect(tx.folder.due).toBe(false);
    now += 100;
    expect(tx.folder.due).toBe(true);
  } finally {
    clock.mockRestore();
  }
});

test("a store that was built in one go has nothing left in its journal", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const builder = new StoreBuilder(file);
  builder.run("INSERT INTO conversation (kind, lo, hi) VALUES (0, 1, 2)");
  for (let seq = 1; seq <= 200; seq++)
    await builder.append([single([1, seq, MsgId.chat, 1, 1, null, seq, `text ${seq}`])]);
  builder.finish();
  const tx = new SqliteTx(openDatabase(file));
  expect(countOf(tx, "journal")).toBe(0);
  expect((await tx.log.page(1, 0, 300, 100_000)).map((row) => row[1])).toEqual(
    Array.from({ length: 200 }, (_, i) => i + 1),
  );
});
