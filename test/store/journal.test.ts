// The embedded log's two places, journal and tables: whatever is where, and whenever the process dies, every row is
// read once, every mid is known, and seqs go on.

import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { copyFileSync, existsSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { LogRow } from "../../src/db/db.ts";
import { openSqliteStore } from "../../src/db/sqlite.ts";
import { operations } from "../../src/model/store.ts";
import { temporaryFolder, until } from "../harness.ts";
import { more } from "./journal-worker.ts";
import { batch } from "./numbered.ts";

const thread = new URL("../../src/store-worker.ts", import.meta.url);
const open = (file: string) => openSqliteStore(file, operations, thread);
const openMore = (file: string) => openSqliteStore(file, more, new URL("journal-worker.ts", import.meta.url));
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
  // Nor do requests that leave time for it bring on folding.
  for (let i = 0; i < 3; i++) await store.friendsOf(1);
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
  // The file is complete by itself.
  expect(readdirSync(folder).filter((name) => name.startsWith("crashed.db-"))).toEqual([]);
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

test("calls made together are committed together, also where another program writes at that moment", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const store = await open(file);
  await users(store, 2);
  const other = new Database(file);
  other.run("BEGIN IMMEDIATE");
  const calls = Array.from({ length: 50 }, (_, i) => store.append(...batch(i, 1, 1)));
  setTimeout(() => other.run("COMMIT"), 50);
  expect((await Promise.all(calls)).flatMap(({ seqs }) => seqs)).toEqual(calls.map((_, i) => i + 1));
  // More than one record where the machine is slow.
  expect(journalled(file)).toBeLessThan(25);
  other.close();
  await store.close();
});

test("a transaction that fails at its end leaves nothing, and those who read with it are answered", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const store = await open(file);
  await users(store, 2);
  const other = new Database(file);
  other.run("CREATE TRIGGER damage BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'a damaged page'); END");
  const why = (call: Promise<unknown>) => call.catch(({ message }: Error) => message.replace(/^.*: /, ""));
  const calls = () => [store.friendsOf(1), why(store.append(...batch(0, 10, 1))), store.friendsOf(1)];
  expect(await Promise.all(calls())).toEqual([[], "a damaged page", []]);
  // As a full disk does.
  other.run("CREATE TRIGGER ended BEFORE INSERT ON conversation BEGIN SELECT RAISE(ROLLBACK, 'at once'); END");
  expect(await Promise.all(calls())).toEqual([[], "at once", []]);
  for (const trigger of ["damage", "ended"]) other.run(`DROP TRIGGER ${trigger}`);
  other.close();
  expect((await store.append(...batch(20, 1, 1))).seqs).toEqual([1]);
  await store.close();
});

test("what is stored is copied into the file, also while nothing is folded", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const store = await open(file);
  for (let i = 0; i < 200; i++) await store.createUser(`user${i}`, "x".repeat(60_000));
  const isCopied = async () => (await store.friendsOf(1)) && statSync(file).size > (200 * 60_000) / 2;
  await until(isCopied, "half of it is in the file");
  await store.close();
});

test("an operation that fails takes with it what it has appended, and nothing of those beside it", async () => {
  const store = await openMore(join(temporaryFolder(), "chat.db"));
  await users(store, 2);
  const calls = [
    store.append(...batch(0, 10, 1)),
    store.inVain("ann", ...batch(10, 10, 1)).catch(({ message }: Error) => message),
    store.append(...batch(20, 2, 1)),
    store.createUser("ann", "hash"),
  ];
  expect(await Promise.all(calls)).toMatchObject([{ seqs: [1] }, "bug: in vain", { seqs: [11] }, 3]);
  expect((await readAll(store, 1)).map((row) => row[7])).toEqual(
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 21].map((n) => `text ${n}`),
  );
  await store.close();
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

/** A store of four users in which this statement fails, until it is repaired. */
async function openDamaged(statement: string) {
  const file = join(temporaryFolder(), "chat.db");
  const troubles: string[] = [];
  const store = await openSqliteStore(file, operations, thread, undefined, (what) => troubles.push(what));
  await users(store, 4);
  const other = new Database(file);
  other.run("PRAGMA busy_timeout = 5000");
  other.run(`CREATE TRIGGER damage BEFORE ${statement} BEGIN SELECT RAISE(ABORT, 'a damaged page'); END`);
  const repair = () => {
    other.run("DROP TRIGGER damage");
    other.close();
  };
  return { file, store, troubles, repair };
}

test("while folding fails that is told, and what comes is refused before it is too much; then all goes on", async () => {
  const { file, store, troubles, repair } = await openDamaged("INSERT ON run");
  let stored = 0;
  const append = () => store.append(...batch(stored, 500, 1)).then(() => (stored += 500));
  let refusal = "";
  while (refusal === "" && stored < 1_000_000) await append().catch(({ message }: Error) => (refusal = message));
  expect(refusal).toContain("JOURNAL_FULL");
  expect(stored).toBeGreaterThan(300_000);
  expect(new Set(troubles)).toEqual(new Set(["the journal is not folded yet, trying again: a damaged page"]));
  // Who reads is served.
  expect(await store.friendsOf(1)).toEqual([]);
  repair();
  await until(() => append().then(Boolean, () => false), "messages are stored again", 20_000);
  await store.close();
  expect(journalled(file)).toBe(0);
}, 60_000);

test("what was folded in vain, because its end failed, is folded again", async () => {
  const { file, store, troubles, repair } = await openDamaged("DELETE ON journal");
  await store.append(...batch(0, 90, 3));
  await until(() => troubles.length > 0, "folding fails");
  repair();
  await store.append(...batch(90, 10, 3));
  await until(() => journalled(file) === 0, "everything is folded when nobody asks");
  const all = Array.from({ length: 100 }, (_, i) => i);
  expect(await verify(store, 3)).toEqual(all);
  await store.close();
  const again = await open(file);
  expect(await verify(again, 3)).toEqual(all);
  await again.close();
});
