// The log's statements: in what order conversations are made and locked, how pages are bounded and sizes counted.
import { expect, test } from "bun:test";
import { LogIds } from "../../src/db/log-ids.ts";
import type { MysqlConnection, Result } from "../../src/db/mysql-connection.ts";
import { Stale } from "../../src/db/mysql-errors.ts";
import { MysqlTx } from "../../src/db/mysql-tx.ts";
import { single } from "../../src/db/series.ts";

const DONE: Result = { columns: [], rows: [], changes: 1, id: 0 };
const COLUMNS = ["id", "kind", "lo", "hi", "last_seq", "member_ver"];

function begin(answer: (sql: string) => Result["rows"] = () => [], ids = new LogIds()) {
  const sent: string[] = [];
  const query = async (statements: string[]) => {
    sent.push(...statements);
    return statements.map((sql): Result => ({ ...DONE, columns: COLUMNS, rows: answer(sql) }));
  };
  const connection = { query, lost: null } as unknown as MysqlConnection;
  const guard = { opening: "SELECT 1", check: () => undefined, closing: () => "SELECT 2" };
  const options = { ids, maxPacketBytes: 1_000_000, deadline: 10_000, careful: false };
  const tx = new MysqlTx({ connection, guard, ...options });
  return { tx, sent };
}

/** A row of the conversation table. */
const direct = (id: number, lo: number, hi: number) => ({ id, kind: 0, lo, hi, last_seq: 0, member_ver: 0 });

test("conversations are made in the order of their index, whatever the order in which they are asked for", async () => {
  const { tx, sent } = begin();
  await tx.log.create(["g:1", "u:2-10", "u:2-9", "u:10-11", "u:1-30"]);
  expect(sent).toEqual([
    "INSERT IGNORE INTO conversation (kind, lo, hi) VALUES (0, 1, 30), (0, 2, 9), (0, 2, 10), (0, 10, 11), (1, 1, 0)",
  ]);
  const refusal = new Error("refused");
  const refusing = begin(() => {
    throw refusal;
  });
  await expect(refusing.tx.log.create(["u:1-2"])).rejects.toBe(refusal);
  // Never under locks.
  await tx.run("UPDATE something");
  await expect(tx.log.create(["u:1-2"])).rejects.toThrow("before the transaction writes");
});

test("an id that has been read is not asked for again, until its conversation is gone", async () => {
  const ids = new LogIds();
  const read = async (rows: Result["rows"]) => {
    const { tx, sent } = begin((sql) => (sql.startsWith("SELECT id") ? rows : []), ids);
    const found = await tx.log.named(["u:1-2"]);
    return { sent, id: found.get("u:1-2")!.id, lock: () => tx.log.lock(found) };
  };
  const first = await read([[5, 0, 1, 2, 0, 0]]);
  expect([first.id, first.sent]).toEqual([5, [expect.stringContaining("WHERE (`kind`, `lo`, `hi`) IN ((0, 1, 2))")]]);
  const next = await read([]);
  expect([next.id, next.sent]).toEqual([5, []]);
  await expect(next.lock()).rejects.toBeInstanceOf(Stale);
  expect((await read([[6, 0, 1, 2, 0, 0]])).id).toBe(6);
});

test("conversations are locked by ascending ids, in all statements that it takes", async () => {
  const idsIn = (sql: string) => /`id` IN \((.*)\)/.exec(sql)![1]!.split(", ").map(Number);
  const { tx, sent } = begin((sql) =>
    sql.startsWith("SELECT id") ? idsIn(sql).map((id) => [id, 0, id, id, 0, 0]) : [],
  );
  const ids = Array.from({ length: 2_000 }, (_, i) => 2_000 - i);
  await tx.log.lock(new Map(ids.map((id) => [`u:${id}-${id}`, direct(id, id, id)])));
  const locks = sent.filter((sql) => sql.includes("FROM conversation"));
  expect(locks).toHaveLength(3);
  for (const sql of locks) expect(sql).toEndWith(" ORDER BY id FOR UPDATE");
  expect(locks.flatMap(idsIn)).toEqual(ids.reverse());
});

test("a page ends with the row that uses up its bytes, and has one row at least", async () => {
  const sizes = [40, 60, 1, 500];
  const { tx, sent } = begin((sql) => (sql.startsWith("SELECT size") ? sizes.map((size) => [size]) : []));
  const limits = [];
  for (const bytes of [1, 40, 41, 100, 101, 9_999]) {
    await tx.log.page(7, 3, 4, bytes);
    limits.push(Number(/LIMIT (\d+)$/.exec(sent.at(-1)!)![1]));
  }
  expect(limits).toEqual([1, 1, 2, 2, 3, 4]);
  sent.length = 0;
  await tx.log.page(7, 3, 1, 1);
  sizes.length = 0;
  await tx.log.page(7, 3, 4, 100);
  expect(sent.map((sql) => sql.startsWith("SELECT size"))).toEqual([false, true]);
});

test("a row's size is that of its text in bytes", async () => {
  const { tx, sent } = begin((sql) => (sql.endsWith("FOR UPDATE") ? [[5, 0, 1, 2, 0, 0]] : []));
  await tx.log.lock(new Map([["u:1-2", direct(5, 1, 2)]]));
  await tx.log.append([single([5, 1, 1004, 1, 0, null, 1_000, "ä😀"])]);
  await tx.commit(() => undefined);
  expect(sent.find((sql) => sql.startsWith("INSERT INTO message"))).toEndWith(
    "VALUES (5, 1, 1004, 1, 0, NULL, 1000, 'ä😀', 6)",
  );
});

test("the heads are those of the conversations that are appended to, or whose members change", async () => {
  const rows = [3, 4, 5].map((group) => [group, 1, group, 0, 7, 2]);
  const { tx } = begin((sql) => (sql.endsWith("FOR UPDATE") ? rows : []));
  const named = rows.map(([id]) => [`g:${id}`, { ...direct(id!, id!, 0), kind: 1 }] as const);
  const locked = await tx.log.lock(new Map(named));
  await tx.log.changeMembers(locked.get("g:3")!);
  await tx.log.append([single([4, 8, 1008, 1, 0, null, 1_000, "hi"])]);
  expect(tx.log.heads()).toEqual([
    [3, "g:3", 7, 3],
    [4, "g:4", 8, 2],
  ]);
});

test("where the members' new version is refused, so is the commit", async () => {
  const refusal = new Error("refused");
  const { tx } = begin((sql) => {
    if (sql.startsWith("UPDATE conversation")) throw refusal;
    return [];
  });
  await tx.log.changeMembers(direct(5, 1, 2));
  await expect(tx.commit(() => undefined)).rejects.toBe(refusal);
});

test("a mid is a repetition where its sender has used it in the same conversation", async () => {
  const rows = [5, 6].map((id) => [id, 0, 1, id, 0, 0]);
  const { tx, sent } = begin((sql) => (sql.endsWith("FOR UPDATE") ? rows : []));
  await tx.log.lock(new Map(rows.map(([id]) => [`u:1-${id}`, direct(id!, 1, id!)])));
  const row = (id: number, seq: number, sender: number) => single([id, seq, 1004, sender, 0, "mid", 1_000, "hi"]);
  expect(await tx.log.append([row(5, 1, 1), row(5, 2, 1)])).toBe(false);
  expect(await tx.log.append([row(5, 1, 1), row(5, 2, 5), row(6, 1, 1)])).toBe(true);
  // Those that are stored already show as a duplicate key: they are not looked for in advance.
  expect(sent.filter((sql) => sql.includes("FROM message"))).toEqual([]);
});
