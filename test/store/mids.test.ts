// The embedded log's memory of mids: whatever clients use as mids, a repetition gets the seq of the first, wherever that is
// kept by then, and nothing else does.

import { Database } from "bun:sqlite";
import { expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import initial from "../../sql/sqlite/0001-initial.sql" with { type: "text" };
import type { LogRow } from "../../src/db/db.ts";
import { single } from "../../src/db/series.ts";
import { APPLICATION_ID, openDatabase } from "../../src/db/sqlite-migrate.ts";
import { SqliteTx } from "../../src/db/sqlite-tx.ts";
import { createGroup } from "../../src/model/group.ts";
import { append } from "../../src/model/message.ts";
import { Errno, groupConv, MsgId } from "../../src/protocol.ts";
import { temporaryFolder } from "../harness.ts";
import { Random } from "../soak/random.ts";
import { byMessage, draftsOf } from "./series.ts";

interface Post {
  conv: string;
  sender: number;
  mid: string | null;
}

const messages = (posts: Post[]) =>
  draftsOf(posts.map((post) => ({ ...post, kind: MsgId.chat, device: 0, time: 1_000, text: `text of ${post.mid}` })));

function open(file: string) {
  const db = openDatabase(file);
  const tx = new SqliteTx(db);
  tx.log.replay();
  return { db, tx };
}

/** Stores messages of one user to another in a transaction; returns their seqs. */
async function commit(db: Database, tx: SqliteTx, mids: (string | null)[], sender = 1): Promise<number[]> {
  db.run("BEGIN");
  const { seqs } = byMessage(await append(tx, ...messages(mids.map((mid) => ({ conv: "u:1-2", sender, mid })))));
  tx.log.record();
  db.run("COMMIT");
  tx.log.committed();
  return seqs;
}

const CONVERSATIONS: [conv: string, ...senders: number[]][] = [
  ["u:1-2", 1, 2],
  ["u:1-3", 1, 3],
  ["u:2-3", 2, 3],
];

/**
 * Kinds of clients: those that count, by number and by time, those that start again, those who take what comes, and those
 * without mids; each sends some messages in a row, new ones or what it has sent before.
 */
function* posts(random: Random): Generator<Post> {
  const used: Post[] = [];
  let session = "";
  for (let count = 0; ; ) {
    const [conv, ...senders] = random.pick(CONVERSATIONS);
    const sender = random.pick(senders);
    const kind = random.int(0, 9);
    if (random.int(0, 30) === 0) session = random.int(0, 999_999).toString(36);
    const length = 1 + random.int(0, 7);
    const from = used.length > 0 && random.int(0, 4) === 0 ? random.int(0, used.length - 1) : null;
    const burst =
      from !== null
        ? used.slice(from, from + length)
        : Array.from({ length }, () => {
            count++;
            const mid = [
              `${count}`,
              `m${count}`,
              Bun.randomUUIDv7(),
              `${session}-${count}`,
              crypto.randomUUID(),
              `small ${random.int(0, 399)}`,
              `é${count % 300}\u{1F600}`,
              `${count}`.padStart(64, "0"),
              random.pick(["!", "~".repeat(64), " ", "0", "null"]),
              null,
            ][kind]!;
            return { conv, sender, mid };
          });
    if (from === null) used.push(...burst);
    yield* burst;
  }
}

for (const seed of [1, 2, 3])
  test(`a repetition gets the first one's seq, and nothing else does (seed ${seed})`, async () => {
    const random = new Random(seed);
    const file = join(temporaryFolder(), "chat.db");
    let { db, tx } = open(file);
    db.run("INSERT INTO user (name, password) VALUES ('a', ''), ('b', ''), ('c', '')");
    const heads = new Map<string, number>();
    const seqs = new Map<string, number>();
    const source = posts(random);
    let repeated = 0;
    let rows = 0;
    for (let round = 0; round < 600; round++) {
      const batch = Array.from({ length: 1 + random.int(0, 19) }, () => source.next().value as Post);
      db.run("BEGIN");
      const appended = byMessage(await append(tx, ...messages(batch)));
      if (random.int(0, 7) === 0) {
        tx.log.undo(0);
        db.run("ROLLBACK");
      } else {
        tx.log.record();
        db.run("COMMIT");
        tx.log.committed();
        const expected = batch.map(({ conv, sender, mid }) => {
          const name = JSON.stringify([conv, sender, mid ?? rows]);
          rows++;
          if (seqs.has(name)) repeated++;
          else {
            heads.set(conv, (heads.get(conv) ?? 0) + 1);
            seqs.set(name, heads.get(conv)!);
          }
          return seqs.get(name)!;
        });
        expect(appended.seqs).toEqual(expected);
      }
      if (random.int(0, 5) === 0) {
        db.run("BEGIN");
        tx.folder.fold(1 + random.int(0, 199));
        const fails = random.int(0, 2) === 0;
        db.run(fails ? "ROLLBACK" : "COMMIT");
        if (fails) tx.folder.rolledBack();
        else tx.folder.committed();
      }
      if (random.int(0, 19) === 0) {
        db.close();
        ({ db, tx } = open(file));
      }
    }
    expect(repeated).toBeGreaterThan(500);
    expect(db.query("SELECT count(*) AS rows FROM message").get()).toEqual({ rows: seqs.size });
    expect(db.query("SELECT count(*) > 0 AS some FROM mid_range").get()).toEqual({ some: 1 });
    db.close();
  });

test("a mid that is the text null is none beside messages without a mid", async () => {
  const { db, tx } = open(join(temporaryFolder(), "chat.db"));
  db.run("INSERT INTO user (name, password) VALUES ('a', ''), ('b', '')");
  const batches = [["zzzzz"], ["null"], ["null"], [null, "null"]];
  const seqs: number[][] = [];
  for (const mids of batches) seqs.push(await commit(db, tx, mids));
  expect(seqs).toEqual([[1], [2], [2], [3, 2]]);
  db.close();
});

test("repeated mids leave nothing behind", async () => {
  const { db, tx } = open(join(temporaryFolder(), "chat.db"));
  db.run("INSERT INTO user (name, password) VALUES ('a', ''), ('b', '')");
  for (let i = 0; i < 100; i++) expect(await commit(db, tx, ["1"])).toEqual([1]);
  const { odd, indexes } = tx.log.mids as unknown as { odd: Set<unknown>; indexes: Map<unknown, unknown> };
  expect(odd.size).toBe(0);
  // The index is kept for the next one, and so is what is new and yet not above all before it: until they are folded.
  expect(await commit(db, tx, ["0"])).toEqual([2]);
  expect([odd.size, indexes.size]).toEqual([1, 1]);
  tx.folder.fold(10);
  tx.folder.committed();
  expect([odd.size, indexes.size]).toEqual([0, 0]);
  db.close();
});

test("two who use the same mids are told apart, also in one run", async () => {
  const { db, tx } = open(join(temporaryFolder(), "chat.db"));
  db.run("INSERT INTO user (name, password) VALUES ('a', ''), ('b', '')");
  expect(await commit(db, tx, ["m1", "m2"], 1)).toEqual([1, 2]);
  expect(await commit(db, tx, ["m1", "m2"], 2)).toEqual([3, 4]);
  expect(await commit(db, tx, ["é".repeat(9)], 2)).toEqual([5]);
  // As after a restart: what one has used is nothing to another, nor is one that does not count to those that do.
  const { log } = new SqliteTx(db);
  log.replay();
  const isNew = (sender: number, mid: string) =>
    log.mids.areNew(single([1, 6, MsgId.chat, sender, 0, mid, 1_000, "text"]));
  expect([isNew(3, "m1"), isNew(2, "m2"), isNew(2, "m3")]).toEqual([true, false, true]);
  tx.folder.fold(10);
  tx.folder.committed();
  expect(db.query("SELECT count(*) AS runs FROM run").get()).toEqual({ runs: 1 });
  expect(await commit(db, tx, ["m2", "m1"], 1)).toEqual([2, 1]);
  expect(await commit(db, tx, ["m2", "m1"], 2)).toEqual([4, 3]);
  db.close();
});

test("of a mid that lies between two runs no run is read", async () => {
  const { db, tx } = open(join(temporaryFolder(), "chat.db"));
  db.run("INSERT INTO user (name, password) VALUES ('a', ''), ('b', '')");
  for (const mids of [["b", "d"], ["f"]]) {
    await commit(db, tx, mids);
    tx.folder.fold(10);
    tx.folder.committed();
  }
  const runAfter = spyOn(tx.log, "runAfter");
  expect(await commit(db, tx, ["e", "a"])).toEqual([4, 5]);
  expect(runAfter).not.toHaveBeenCalled();
  // Within a run's range and yet new, or not new.
  expect(await commit(db, tx, ["c", "d"])).toEqual([6, 2]);
  db.close();
});

test("a file in which a mid was stored twice is folded all the same", async () => {
  const { db, tx } = open(join(temporaryFolder(), "chat.db"));
  db.run("INSERT INTO user (name, password) VALUES ('a', ''), ('b', '')");
  await commit(db, tx, ["zzzzz"]);
  await commit(db, tx, ["a"]);
  db.run("INSERT INTO mid (conversation, sender, mid, seq) VALUES (1, 1, 'a', 9)");
  db.run("BEGIN");
  tx.folder.fold(10);
  db.run("COMMIT");
  tx.folder.committed();
  expect(tx.log.size).toBe(0);
  db.close();
});

test("the mids of a sender who counts cost no row each", async () => {
  const { db, tx } = open(join(temporaryFolder(), "chat.db"));
  db.run("INSERT INTO user (name, password) VALUES ('a', ''), ('b', '')");
  const count = 3_200;
  db.run("BEGIN");
  await append(tx, ...messages(Array.from({ length: count }, (_, i) => ({ conv: "u:1-2", sender: 1, mid: `m${i}` }))));
  tx.log.record();
  tx.folder.fold(count);
  db.run("COMMIT");
  expect(db.query("SELECT count(*) AS rows FROM mid").get()).toEqual({ rows: 0 });
  const { runs } = db.query("SELECT count(*) AS runs FROM run").get() as { runs: number };
  expect(runs).toBeLessThan(count / 32);
  expect(db.query("SELECT count(*) AS rows FROM mid_range").get()).toEqual({ rows: runs });
  // Nor after a restart.
  const { log, folder } = new SqliteTx(db);
  const next = [count, count + 1].map((i): LogRow => [1, i + 1, MsgId.chat, 1, 0, `m${i}`, 1_000, "text"]);
  expect(await log.append(next.map(single))).toBe(true);
  folder.fold(count);
  expect(db.query("SELECT count(*) AS rows FROM mid").get()).toEqual({ rows: 0 });
  db.close();
});

test("of so many senders the highest mid is kept, and each is looked up once", () => {
  const { db, tx } = open(join(temporaryFolder(), "chat.db"));
  const { mids } = tx.log;
  const { highest } = mids as unknown as { highest: Map<number, Map<number, string>> };
  const kept = () => [...highest.values()].reduce((sum, { size }) => sum + size, 0);
  const prepare = spyOn(tx, "prepare");
  const ofSender = (sender: number) => single([sender % 2, 1, MsgId.chat, sender, 0, "m1", 1_000, "text"]);
  for (let sender = 1; sender <= 50_000; sender++) mids.note(ofSender(sender));
  expect([kept(), prepare.mock.calls.length]).toEqual([50_000, 50_000]);
  for (let sender = 1; sender <= 100; sender++) expect(mids.areNew(ofSender(sender))).toBe(false);
  expect(prepare).toHaveBeenCalledTimes(50_000);
  // What has been undone makes room; beyond that all make room.
  mids.undone(ofSender(1));
  mids.note(ofSender(50_001));
  expect(kept()).toBe(50_000);
  for (let sender = 50_002; sender <= 50_010; sender++) mids.note(ofSender(sender));
  expect(kept()).toBe(9);
  db.close();
});

test("a file of the first schema knows its mids after the migration", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const old = new Database(file, { create: true });
  old.run(initial);
  old.run(`PRAGMA application_id = ${APPLICATION_ID}`);
  old.run("PRAGMA user_version = 1");
  old.run("INSERT INTO user (name, password) VALUES ('a', ''), ('b', '')");
  old.run("INSERT INTO conversation (kind, lo, hi, last_seq) VALUES (0, 1, 2, 5)");
  const mids = ["b1", "b10", "b9", "é", "a b"];
  const rows = mids.map((mid, i) => [1, i + 1, MsgId.chat, 1, 0, mid, 1_000, `text of ${mid}`]);
  old.run("INSERT INTO run (place, rows) VALUES (1 << 32 | 2, ?), (1 << 32 | 5, ?)", [
    JSON.stringify(rows.slice(0, 2)),
    JSON.stringify(rows.slice(2)),
  ]);
  for (const [i, mid] of mids.entries()) old.run("INSERT INTO mid VALUES (1, 1, ?, ?)", [mid, i + 1]);
  old.close();
  const { db, tx } = open(file);
  db.run("BEGIN");
  const again = messages(["é", "b9", "a b", "b10", "b1", "b2"].map((mid) => ({ conv: "u:1-2", sender: 1, mid })));
  expect(byMessage(await append(tx, ...again)).seqs).toEqual([4, 3, 5, 2, 1, 6]);
  db.run("COMMIT");
  db.close();
});

test("who is no member any more is answered what they sent as one, and refused what is new", async () => {
  const { db, tx } = open(join(temporaryFolder(), "chat.db"));
  db.run("INSERT INTO user (id, name, password) VALUES (1, 'u1', '')");
  const conv = groupConv(await createGroup(tx, 1, "hikers", ""));
  const send = async (...mids: string[]) =>
    byMessage(await append(tx, ...messages(mids.map((mid) => ({ conv, sender: 1, mid })))));
  expect((await send("a", "b")).seqs).toEqual([1, 2]);
  db.run("DELETE FROM member");
  const { seqs, repeated, refused } = await send("b", "c");
  expect({ seqs, repeated }).toEqual({ seqs: [2, 0], repeated: [[0, 1_000]] });
  expect(refused.map(([index, errno]) => [index, errno])).toEqual([[1, Errno.forbidden]]);
  db.close();
});
