// The embedded log's two places, journal and tables: whatever is where, and whenever the process dies, every row is
// read once, every mid is known, and seqs go on.

import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { copyFileSync, existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { LogRow } from "../../src/db/db.ts";
import { single } from "../../src/db/series.ts";
import { openSqliteStore } from "../../src/db/sqlite.ts";
import { openDatabase } from "../../src/db/sqlite-migrate.ts";
import { SqliteTx } from "../../src/db/sqlite-tx.ts";
import { operations } from "../../src/model/store.ts";
import { directConv, MsgId } from "../../src/protocol.ts";
import { temporaryFolder, until } from "../harness.ts";
import { batch } from "./numbered.ts";

const thread = new URL("../../src/store-worker.ts", import.meta.url);
const open = (file: string) => openSqliteStore(file, operations, thread);
type Opened = Awaited<ReturnType<typeof open>>;

async function users(store: Opened, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await store.createUser(`user${i}`, "hash");
}

/** Every row of a peer's conversation, in order. */
async function readAll(store: Opened, conversation: number): Promise<LogRow[]> {
  const rows: LogRow[] = [];
  for (;;) {
    const page = await store.backlog([1, 0], [[conversation, rows.at(-1)?.[1] ?? 0]], 256, 1_000_000);
    rows.push(...page.rows);
    if (page.rows.length === 0) return rows;
  }
}

/** The numbers of all messages in the store, which must be in order, without gaps and doubles, in each conversation. */
async function verify(store: Opened, peers: number): Promise<number[]> {
  const found: number[] = [];
  // The order in which the first batch made them.
  for (let conversation = 1; conversation <= peers; conversation++) {
    const rows = await readAll(store, conversation);
    expect(rows.map((row) => row[1])).toEqual(rows.map((_, i) => i + 1));
    const numbers = rows.map((row) => Number(row[7].slice(5)));
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    found.push(...numbers);
  }
  return found.sort((a, b) => a - b);
}

/** How many records the journal of a database in use holds. */
function journalled(file: string): number {
  const db = new Database(file, { readonly: true });
  db.run("PRAGMA busy_timeout = 5000");
  try {
    return (db.query("SELECT count(*) AS count FROM journal").get() as { count: number }).count;
  } finally {
    db.close();
  }
}

test("what is in the journal alone is there after a crash, and seqs and mids go on", async () => {
  const folder = temporaryFolder();
  const file = join(folder, "chat.db");
  const store = await open(file);
  await users(store, 4);
  const first = await store.append(...batch(0, 90, 3));
  expect(first.refused).toEqual([]);
  expect(journalled(file)).toBeGreaterThan(0);
  // As a crash leaves it: nothing is written meanwhile.
  const copy = join(folder, "crashed.db");
  for (const suffix of ["", "-wal"]) if (existsSync(file + suffix)) copyFileSync(file + suffix, copy + suffix);
  await store.close();
  const again = await open(copy);
  expect(await verify(again, 3)).toEqual(Array.from({ length: 90 }, (_, i) => i));
  expect((await again.append(...batch(0, 90, 3))).seqs).toEqual(first.seqs);
  expect((await again.append(...batch(90, 3, 3))).seqs).toEqual([31, 31, 31]);
  await again.close();
});

test("folding under load and when idle loses nothing, doubles nothing and knows every mid", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const store = await open(file);
  const peers = 7;
  await users(store, 1 + peers);
  const total = 40_000;
  const seqs: number[] = [];
  for (let from = 0; from < total; from += 2_000) {
    const batches = [0, 500, 1_000, 1_500].map((at) => store.append(...batch(from + at, 500, peers)));
    for (const appended of await Promise.all(batches)) seqs.push(...appended.seqs);
    // What is read while folding is under way is complete, wherever it is.
    if (from % 10_000 === 0) expect((await readAll(store, 1)).length).toBe(Math.ceil((from + 2_000) / peers));
  }
  expect(await verify(store, peers)).toEqual(Array.from({ length: total }, (_, i) => i));
  const resent = [0, 4_000, 8_000, 16_000, 24_000, 39_500];
  for (const from of resent) {
    const { seqs: repeated, repeated: told } = await store.append(...batch(from, 500, peers));
    expect(repeated).toEqual(seqs.slice(from, from + 500));
    expect(told.length).toBe(500);
  }
  await until(() => journalled(file) === 0, "everything is folded when nobody asks");
  expect(await verify(store, peers)).toEqual(Array.from({ length: total }, (_, i) => i));
  expect((await store.append(...batch(12_345, 500, peers))).seqs).toEqual(seqs.slice(12_345, 12_845));
  await store.close();
  const db = new Database(file, { readonly: true });
  db.run("PRAGMA busy_timeout = 5000");
  expect(db.query("SELECT count(*) AS rows, count(DISTINCT mid) AS mids FROM message").get()).toEqual({
    rows: total,
    mids: total,
  });
  db.close();
});

test("a process killed while it appends and folds has lost nothing that it acknowledged", async () => {
  const file = join(temporaryFolder(), "chat.db");
  let acked = 0;
  for (let round = 0; round < 8; round++) {
    const writer = Bun.spawn([process.execPath, resolve(import.meta.dir, "journal-writer.ts"), file, String(acked)], {
      stdout: "pipe",
      stderr: "inherit",
    });
    const enough = acked + 3_000 + 2_500 * round;
    for await (const chunk of writer.stdout) {
      const lines = new TextDecoder().decode(chunk).trim().split("\n");
      acked = Number(lines.at(-1));
      if (acked >= enough) break;
    }
    writer.kill("SIGKILL");
    await writer.exited;
    const store = await open(file);
    const numbers = await verify(store, 20);
    expect(numbers.length).toBeGreaterThanOrEqual(acked);
    expect(numbers).toEqual(numbers.map((_, i) => i));
    // What was stored and not acknowledged is known by its mid when it is sent again.
    acked = numbers.length;
    expect((await store.append(...batch(acked - 500, 500, 20, 5))).repeated.length).toBe(500);
    await store.close();
  }
  expect(acked).toBeGreaterThan(20_000);
}, 120_000);

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

/** Appends `each` rows to every one of `conversations` conversations. */
async function fill(tx: SqliteTx, conversations: number, each: number, text = "text"): Promise<void> {
  const logs = Array.from({ length: conversations }, (_, i) => i + 1);
  const next = tx.log.current(logs.map((id) => ({ id, last_seq: 0 })));
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
  await fill(few!, 20, 1_000);
  expect(few!.folder.due).toBe(true);
  await fill(many!, 5_000, 4);
  expect(many!.folder.due).toBe(false);
  await fill(many!, 5_000, 2);
  expect(many!.folder.due).toBe(true);
});

test("while folding fails that is told, and what comes is refused before it is too much; then all goes on", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const troubles: string[] = [];
  const store = await openSqliteStore(file, operations, thread, undefined, (what) => troubles.push(what));
  await users(store, 2);
  const other = new Database(file);
  other.run("PRAGMA busy_timeout = 5000");
  other.run("CREATE TRIGGER damage BEFORE INSERT ON run BEGIN SELECT RAISE(ABORT, 'a damaged page'); END");
  let stored = 0;
  const append = () => store.append(...batch(stored, 500, 1)).then(() => (stored += 500));
  let refusal = "";
  while (refusal === "" && stored < 1_000_000) await append().catch(({ message }: Error) => (refusal = message));
  expect(refusal).toContain("JOURNAL_FULL");
  expect(stored).toBeGreaterThan(300_000);
  expect(new Set(troubles)).toEqual(new Set(["the journal is not folded yet, trying again: a damaged page"]));
  // Who reads is served.
  expect(await store.friendsOf(1)).toEqual([]);
  other.run("DROP TRIGGER damage");
  other.close();
  await until(() => append().then(Boolean, () => false), "messages are stored again", 20_000);
  await store.close();
  expect(journalled(file)).toBe(0);
}, 60_000);
