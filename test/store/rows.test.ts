// Rows column by column, as JSON: they come back as they were, people see them in the view, and what older versions wrote,
// row by row and without series, is read as well.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import initial from "../../sql/sqlite/0001-initial.sql" with { type: "text" };
import ranges from "../../sql/sqlite/0002-mid-ranges.sql" with { type: "text" };
import columns from "../../sql/sqlite/0003-columns.sql" with { type: "text" };
import bySeries from "../../sql/sqlite/0004-series.sql" with { type: "text" };
import type { LogRow } from "../../src/db/db.ts";
import { innerOf, type Series, single } from "../../src/db/series.ts";
import { APPLICATION_ID, openDatabase, SCHEMA_VERSION } from "../../src/db/sqlite-migrate.ts";
import { decodeRows, encodeSeries } from "../../src/db/sqlite-rows.ts";
import { SqliteTx } from "../../src/db/sqlite-tx.ts";
import { MsgId } from "../../src/protocol.ts";
import { temporaryFolder } from "../harness.ts";

const TS = 1_790_000_000_000;
/** A conversation of two, with all that a row may hold: pauses of months, a clock set back, long ids, events, any text. */
const chat: LogRow[] = [
  [1, 1, MsgId.addFriend, 7, 900_000, null, TS, '{"userid":8}'],
  [1, 2, MsgId.chat, 7, 900_000, "m1", TS, "hello"],
  [1, 3, MsgId.chat, 8, 3, "550e8400-e29b-41d4-a716-446655440000", TS + 9_000_000_000, 'a "quoted"\n\\ line é 😀'],
  [1, 4, MsgId.chat, 8, 3, null, TS - 5_000, ""],
  [1, 5, MsgId.chat, 7, 9_007_199_254_740_991, 'é"\\', TS + 1, "\u0001 [8] \u2028"],
];
const others: LogRow[] = [
  [2, 1, MsgId.chat, 7, 4, "m1", TS, "one"],
  [3, 1, MsgId.chat, 7, 4, "m1", TS, "two"],
  [2, 2, MsgId.chat, 7, 4, "m2", TS, "three"],
];

/** Rows that differ in seq, mid and body alone, as a series. */
function together(...rows: LogRow[]): Series {
  const [first, last] = [single(rows[0]!), single(rows.at(-1)!)];
  const mids = first.mids === null ? null : innerOf(rows.map((row) => row[5]!));
  return { ...first, count: rows.length, top: last.top, mids, bodies: innerOf(rows.map((row) => row[7])) };
}
const mine = Array.from({ length: 5 }, (_, i): LogRow => [1, i + 6, MsgId.chat, 7, 4, `m${i}`, TS + 4, `text "${i}"`]);
const theirs = Array.from({ length: 3 }, (_, i): LogRow => [1, i + 11, MsgId.chat, 8, 3, null, TS + 4, `${i}`]);

test("rows come back as they were", () => {
  for (const rows of [chat, others, chat.slice(2, 3), [...others, ...chat], chat.toReversed()])
    expect(decodeRows(encodeSeries(rows.map(single)))).toEqual(rows);
  const series = [single(chat[4]!), together(...mine), together(...theirs), single(others[0]!)];
  for (const all of [series, series.toReversed(), series.slice(1, 2), series.slice(1, 3)])
    expect(decodeRows(encodeSeries(all)).length).toBe(all.reduce((sum, { count }) => sum + count, 0));
  expect(decodeRows(encodeSeries(series))).toEqual([chat[4]!, ...mine, ...theirs, others[0]!]);
  expect(decodeRows(encodeSeries(series.toReversed()))).toEqual([others[0]!, ...theirs, ...mine, chat[4]!]);
});

test("what all rows have in common takes the space of one, and what a series has that of one number", () => {
  const rows = Array.from({ length: 50 }, (_, i): LogRow => [1, i + 1, MsgId.chat, 7, 4, null, TS, "text"]);
  const sizeOf = (...all: Series[]) => encodeSeries(all).length;
  const one = sizeOf(single(rows[0]!));
  expect(sizeOf(...rows.map(single))).toBeLessThan(one + 50 * 16);
  expect(sizeOf(together(...rows))).toBeLessThan(one + 50 * 12 + 8);
});

/** A file as the second schema left it: rows by row, some folded, some in the journal, and some of these in both. */
function older(): string {
  const file = join(temporaryFolder(), "chat.db");
  const db = new Database(file, { create: true });
  db.run(initial);
  db.run(ranges);
  db.run(`PRAGMA application_id = ${APPLICATION_ID}`);
  db.run("PRAGMA user_version = 2");
  db.run("INSERT INTO conversation (kind, lo, hi, last_seq) VALUES (0, 7, 8, 3), (0, 7, 9, 0), (0, 7, 10, 0)");
  db.run("INSERT INTO run (place, rows) VALUES (1 << 32 | 3, ?)", [JSON.stringify(chat.slice(0, 3))]);
  const uuid = `${String.fromCharCode(32 + 36)}${chat[2]![5]}`;
  db.run("INSERT INTO mid_range (conversation, sender, top, low, seq) VALUES (1, 8, ?1, ?1, 3)", [uuid]);
  for (const rows of [chat.slice(2, 4), [...chat.slice(4), ...others]])
    db.run("INSERT INTO journal (rows) VALUES (?)", [JSON.stringify(rows)]);
  db.close();
  return file;
}

test("runs of earlier schemas are found where they are, however high their ids, and what is folded follows them", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const old = new Database(file, { create: true });
  for (const sql of [initial, ranges, columns, bySeries]) old.run(sql);
  old.run(`PRAGMA application_id = ${APPLICATION_ID}`);
  old.run("PRAGMA user_version = 4");
  const high = 5_000_001;
  const rows = [1, high].flatMap((id) =>
    Array.from({ length: 6 }, (_, i): LogRow => [id, i + 1, MsgId.chat, 7, 4, `m${i}`, TS, `${id}: ${i}`]),
  );
  for (const id of [1, high]) {
    old.run("INSERT INTO conversation (id, kind, lo, hi, last_seq) VALUES (?, 0, 7, ?, 4)", [id, id + 7]);
    const own = rows.filter((row) => row[0] === id).slice(0, 4);
    for (const run of [own.slice(0, 3), own.slice(3)])
      old.run("INSERT INTO run (place, rows) VALUES (? << 32 | ?, ?)", [
        id,
        run.at(-1)![1],
        encodeSeries([together(...run)]),
      ]);
    old.run("INSERT INTO mid_range (conversation, sender, top, low, seq) VALUES (?, 7, '\"m2', '\"m0', 3)", [id]);
    old.run("INSERT INTO mid_range (conversation, sender, top, low, seq) VALUES (?, 7, '\"m3', '\"m3', 4)", [id]);
  }
  old.close();
  const tx = new SqliteTx(openDatabase(file));
  for (const row of rows) if (row[1] > 4) expect(await tx.log.append([single(row)])).toBe(true);
  tx.log.record();
  tx.log.committed();
  tx.folder.fold(Number.POSITIVE_INFINITY);
  tx.folder.committed();
  expect(tx.log.size).toBe(0);
  for (const id of [1, high])
    for (let after = 0; after < 6; after++)
      expect(await tx.log.page(id, after, 100, 100_000)).toEqual(rows.filter((row) => row[0] === id && row[1] > after));
  for (const row of rows) expect(await tx.log.byMid([[row[0], 7, row[5]!]])).toEqual([row]);
});

test("where the index leads to another run, reading fails for that conversation alone, and does not hang", async () => {
  const tx = new SqliteTx(openDatabase(join(temporaryFolder(), "chat.db")));
  for (const id of [1, 2, 3]) {
    tx.prepare("INSERT INTO conversation (kind, lo, hi) VALUES (0, 7, ?)").run(id + 7);
    await tx.log.append([
      together(...["one", "two"].map((text, i): LogRow => [id, i + 1, MsgId.chat, 7, 4, null, TS, text])),
    ]);
  }
  tx.log.record();
  tx.log.committed();
  tx.folder.fold(Number.POSITIVE_INFINITY);
  tx.folder.committed();
  tx.prepare("UPDATE run_end SET run = (SELECT run FROM run_end WHERE conversation = 3) WHERE conversation = 1").run();
  tx.prepare("UPDATE run_end SET seq = 9 WHERE conversation = 3").run();
  await expect(tx.log.page(1, 0, 100, 100_000)).rejects.toThrow("damaged");
  await expect(tx.log.page(3, 0, 100, 100_000)).rejects.toThrow("damaged");
  expect((await tx.log.page(2, 0, 100, 100_000)).map((row) => row[7])).toEqual(["one", "two"]);
});

test("what the third schema left, each row by itself, is read", async () => {
  const db = openDatabase(join(temporaryFolder(), "chat.db"));
  const rows: LogRow[] = [
    [1, 1, MsgId.chat, 7, 4, "m1", TS, "one"],
    [1, 2, MsgId.chat, 8, 3, null, TS, "two"],
    [1, 3, MsgId.chat, 7, 4, "m2", TS + 5, "three"],
  ];
  const record = `[[1,1,${MsgId.chat},7,4,${TS}],[],[0,1,2],[],[0,1,0],[0,-1,0],["m1",null,"m2"],[0,0,5],["one","two","three"]]`;
  db.run("INSERT INTO conversation (kind, lo, hi, last_seq) VALUES (0, 7, 8, 0)");
  db.run("INSERT INTO journal (rows) VALUES (?)", [record]);
  expect(decodeRows(record)).toEqual(rows);
  expect(inView(db)).toEqual(rows);
  const tx = new SqliteTx(db);
  tx.log.replay();
  expect(await tx.log.page(1, 1, 100, 100_000)).toEqual(rows.slice(1));
  db.close();
});

const inView = (db: Database) => db.query("SELECT * FROM message ORDER BY conversation, seq").values() as LogRow[];
const sorted = (rows: LogRow[]) => rows.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]);

test("an older file's rows are read, and what follows is written column by column", async () => {
  const file = older();
  const db = openDatabase(file);
  expect(db.query("PRAGMA user_version").values()).toEqual([[SCHEMA_VERSION]]);
  expect(inView(db)).toEqual(sorted([...chat, ...others]));
  const tx = new SqliteTx(db);
  tx.log.replay();
  const all = async () => [1, 2, 3].map((conversation) => tx.log.page(conversation, 0, 100, 100_000));
  expect((await Promise.all(await all())).flat()).toEqual(sorted([...chat, ...others]));
  const next: LogRow[] = [
    [3, 2, MsgId.chat, 10, 5, "m1", TS + 2, "four"],
    [1, 6, MsgId.chat, 8, 3, "m9", TS + 3, "five"],
  ];
  const series = [7, 8, 9].map((seq): LogRow => [1, seq, MsgId.chat, 7, 4, `x${seq}`, TS + 4, `"${seq}"`]);
  db.run("BEGIN");
  expect(await tx.log.append([...next.map(single), together(...series)])).toBe(true);
  tx.log.record();
  db.run("COMMIT");
  tx.log.committed();
  const expected = sorted([...chat, ...others, ...next, ...series]);
  expect(inView(db)).toEqual(expected);
  db.run("BEGIN");
  tx.folder.fold(1_000);
  db.run("COMMIT");
  tx.folder.committed();
  expect(db.query("SELECT count(*) FROM journal").values()).toEqual([[0]]);
  expect(inView(db)).toEqual(expected);
  expect((await Promise.all(await all())).flat()).toEqual(expected);
  expect((await tx.log.byMid([[1, 8, chat[2]![5]!]])).map((row) => row[1])).toEqual([3]);
  db.close();
});
