// What does not fit the database's packets, and what else one row can do to the others of its batch.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { directConv, Errno } from "../../src/protocol.ts";
import { type RunningMariadb, startMariadb } from "../services.ts";
import { messages, openShared, type SharedStore } from "./mysql-shared.ts";

const PACKET = 1024 * 1024;

let mariadb: RunningMariadb;
let store: SharedStore;
beforeAll(async () => {
  mariadb = await startMariadb([`--max-allowed-packet=${PACKET}`]);
  store = await openShared(mariadb.url);
}, 30_000);
afterAll(async () => {
  await store.close();
  await mariadb.stop();
});

const pair = async () => {
  const ids = [
    await store.createUser(crypto.randomUUID(), "hash"),
    await store.createUser(crypto.randomUUID(), "hash"),
  ];
  return { conv: directConv(ids[0]!, ids[1]!), sender: ids[0]!, receiver: ids[1]! };
};

test("a message over max_allowed_packet is refused alone, and those around it are stored", async () => {
  const [one, two] = [await pair(), await pair()];
  const list = Array.from({ length: 9 }, (_, i) => ({ ...(i % 2 ? one : two), text: `${i}`, mid: `${i}` }));
  list[4]!.text = "x".repeat(PACKET);
  // Within the limit before it is escaped.
  list[7]!.text = "'".repeat(PACKET * 0.6);
  const { seqs, refused } = await store.append(...messages(list));
  expect(refused.map(([index, errno]) => [index, errno])).toEqual([
    [4, Errno.tooLarge],
    [7, Errno.tooLarge],
  ]);
  expect(seqs).toEqual([1, 1, 2, 2, 0, 3, 3, 0, 4]);
  expect((await store.append(...messages(list.filter((_, i) => i !== 4 && i !== 7)))).seqs).toEqual([
    1, 1, 2, 2, 3, 3, 4,
  ]);
});

test("a batch larger than a packet is stored whole, and read back in pages", async () => {
  const { conv, sender, receiver } = await pair();
  const list = Array.from({ length: 30 }, (_, i) => ({ conv, sender, text: `${i}${"ä😀".repeat(20_000)}` }));
  const { seqs, refused, conversations } = await store.append(...messages(list));
  expect(refused).toEqual([]);
  expect(seqs).toEqual(list.map((_, i) => i + 1));
  const read: string[] = [];
  while (read.length < list.length) {
    const { rows } = await store.backlog([receiver, 0], [[conversations[0]!, read.length]], 100, 300_000);
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.length).toBeLessThan(12);
    read.push(...rows.map((row) => row[7]));
  }
  expect(read).toEqual(list.map(({ text }) => text));
});

test("a batch moves each of its conversations on, however many they are", async () => {
  const ids = await Promise.all(Array.from({ length: 26 }, () => store.createUser(crypto.randomUUID(), "hash")));
  const pairs = ids.flatMap((a) => ids.filter((b) => b > a).map((b) => ({ conv: directConv(a, b), sender: a })));
  for (const seq of [1, 2, 3]) {
    const { seqs, refused } = await store.append(...messages(pairs.map((each) => ({ ...each, text: `${seq}` }))));
    expect([seqs, refused]).toEqual([pairs.map(() => seq), []]);
  }
});

test("texts that look like statements, and every kind of character, are only texts", async () => {
  const { conv, sender, receiver } = await pair();
  const texts = [
    "'; COMMIT; DROP TABLE message; --",
    "\\",
    "\\'",
    '"',
    "?",
    "??",
    ":a",
    "\u0000\u001a\b\r\n",
    "/*!50000 x*/",
  ];
  const { conversations } = await store.append(...messages(texts.map((text) => ({ conv, sender, text, mid: text }))));
  const { rows } = await store.backlog([receiver, 0], [[conversations[0]!, 0]], 100, 100_000);
  expect(rows.map((row) => [row[5], row[7]])).toEqual(texts.map((text) => [text, text]));
  const name = "o'\\\"; --";
  const id = await store.createUser(name, "h'ash");
  expect(await store.credentials("name", name)).toEqual({ id, name, password: "h'ash", tokenEpoch: 0 });
});
