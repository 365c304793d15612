// Two instances write to the same conversations while their connections are killed and cut, also between a COMMIT and
// its answer: everything acknowledged is stored once, under the seq that was told, and no seq is missing.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { ChatError, directConv, Errno, groupConv } from "../../src/protocol.ts";
import { type Forwarder, startForwarder } from "../forwarder.ts";
import { type RunningMariadb, startMariadb } from "../services.ts";
import { messages, openShared, type SharedStore, through } from "./mysql-shared.ts";

const RUN_MS = 6_000;
const WRITERS = 3;

let mariadb: RunningMariadb;
let forwarder: Forwarder;
beforeAll(async () => {
  mariadb = await startMariadb();
  forwarder = await startForwarder(mariadb.port);
}, 30_000);
afterAll(async () => {
  forwarder.stop();
  await mariadb.stop();
});

interface Sent {
  conv: string;
  text: string;
  /** As acknowledged; 0: not. */
  seq: number;
}

test("no gap, no double, and every acknowledgement true, while connections are killed and cut", async () => {
  const stores: SharedStore[] = [];
  for (let i = 0; i < 2; i++) stores.push(await openShared(through(mariadb.url, forwarder.port)));
  const users: number[] = [];
  for (let i = 0; i < 8; i++) users.push(await stores[0]!.createUser(`user-${i}`, "hash"));
  const group = await stores[0]!.createGroup(users[0]!, "all", "");
  for (const user of users.slice(1, 4)) await stores[1]!.joinGroup([user, 0, group], 1);
  const outsider = users[7]!;

  let commits = 0;
  let cuts = 0;
  forwarder.watch((data) => {
    if (!data.includes("COMMIT") || ++commits % 23 !== 0) return "pass";
    cuts++;
    return "cut";
  });
  const end = performance.now() + RUN_MS;
  const sent: Sent[] = [];
  const joins: Promise<unknown>[] = [];
  let refused = 0;
  let kills = 0;
  const killer = async () => {
    while (performance.now() < end) {
      await Bun.sleep(30 + Math.random() * 60);
      const threads = await mariadb.admin("SELECT id FROM information_schema.processlist WHERE user = 'chat'");
      const { id } = threads[Math.floor(Math.random() * threads.length)] ?? {};
      if (id !== undefined)
        await mariadb.admin(`KILL ${id}`).then(
          () => kills++,
          () => undefined,
        );
    }
  };
  const writer = async (store: SharedStore, name: string) => {
    for (let n = 0; performance.now() < end; n++) {
      const batch = Array.from({ length: 1 + Math.floor(Math.random() * 20) }, (_, i) => {
        const [a, b] = [users[Math.floor(Math.random() * 4)]!, users[4 + Math.floor(Math.random() * 3)]!];
        const toGroup = Math.random() < 0.3;
        const text = `${name}/${n}/${i}`;
        // Without a mid a batch whose outcome was unknown must not be stored twice either.
        return { conv: toGroup ? groupConv(group) : directConv(a, b), sender: a, text, mid: n % 2 ? text : undefined };
      });
      batch.push({ conv: groupConv(group), sender: outsider, text: `${name}/${n}/outside`, mid: undefined });
      try {
        const { seqs, refused: told } = await store.append(...messages(batch));
        const bad = new Set(told.map(([index]) => index));
        refused += bad.size;
        for (const [i, { conv, text }] of batch.entries()) sent.push({ conv, text, seq: bad.has(i) ? 0 : seqs[i]! });
      } catch {
        // Not known to be stored.
      }
      if (n % 10 === 0) {
        const joined = store.joinGroup([users[4 + ((n / 10) % 3)]!, 0, group], 1);
        joins.push(joined.catch((error) => error instanceof ChatError));
        joins.push(store.openDevice(users[n % 7]!, name, store.boot).catch(() => undefined));
      }
    }
  };
  await Promise.all([
    killer(),
    ...stores.flatMap((store, s) => Array.from({ length: WRITERS }, (_, w) => writer(store, `${s}${w}`))),
  ]);
  await Promise.all(joins);
  forwarder.watch(() => "pass");

  const rows = await mariadb.admin(
    `SELECT IF(c.kind = 0, CONCAT('u:', lo, '-', hi), CONCAT('g:', lo)) AS conv, last_seq, seq, body
     FROM chat.message m JOIN chat.conversation c ON c.id = m.conversation ORDER BY c.id, seq`,
  );
  const stored = new Map<string, { conv: string; seq: number }>();
  const counts = new Map<string, number>();
  const lasts = new Map<string, number>();
  for (const { conv, seq, body, last_seq } of rows as { conv: string; seq: number; body: string; last_seq: number }[]) {
    expect(seq).toBe((counts.get(conv) ?? 0) + 1);
    counts.set(conv, seq);
    lasts.set(conv, last_seq);
    if (!body.startsWith("{")) {
      expect(stored.has(body)).toBe(false);
      stored.set(body, { conv, seq });
    }
  }
  expect([...lasts]).toEqual([...counts]);
  const wrong = sent.filter(({ conv, text, seq }) => {
    const row = stored.get(text);
    return seq === 0 ? row !== undefined && text.endsWith("outside") : row?.seq !== seq || row.conv !== conv;
  });
  expect(wrong).toEqual([]);
  const logged = await mariadb.admin(
    "SELECT boot, lane, COUNT(*) AS count, MAX(batch) AS last FROM chat.commit_log GROUP BY boot, lane",
  );
  for (const { count, last } of logged) expect(count).toBe(last!);
  expect([sent.length > 500, refused > 0, kills > 20, cuts > 20]).toEqual([true, true, true, true]);
  await Promise.all(stores.map((store) => store.close()));
}, 60_000);

test("the same thing asked of two instances at once is done once", async () => {
  const [a, b] = [await openShared(mariadb.url), await openShared(mariadb.url)];
  const both = <T>(work: (store: SharedStore) => Promise<T>) =>
    Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        work(i % 2 ? a : b).then(
          (value) => ({ value, errno: 0 }),
          (error) => ({ value: null, errno: error instanceof ChatError ? error.errno : -1 }),
        ),
      ),
    );
  const errnos = (done: { errno: number }[]) => done.map(({ errno }) => errno).sort((p, q) => p - q);
  const once = (errno: number) => [0, ...Array<number>(9).fill(errno)];
  const [x, y] = [await a.createUser("both-x", "hash"), await a.createUser("both-y", "hash")];
  expect(errnos(await both((store) => store.createUser("both", "hash")))).toEqual(once(Errno.nameTaken));
  expect(errnos(await both((store) => store.addFriend([x, 0, y], "", 1)))).toEqual(once(Errno.alreadyDone));
  const group = await b.createGroup(x, "both", "");
  expect(errnos(await both((store) => store.joinGroup([y, 0, group], 1)))).toEqual(once(Errno.alreadyDone));
  const opened = await both((store) => store.openDevice(x, "new", store.boot, true));
  expect(opened.map(({ value }) => value?.epoch).sort((p, q) => p! - q!)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(new Set(opened.map(({ value }) => value?.id)).size).toBe(1);
  const same = messages([{ conv: directConv(x, y), sender: x, text: "once", mid: "same" }]);
  const sent = await both((store) => store.append(...same));
  // The first row is the word with the friend.
  expect(sent.map(({ value }) => value?.seqs)).toEqual(Array(10).fill([2]));
  expect(sent.filter(({ value }) => value?.repeated.length === 0)).toHaveLength(1);
  await Promise.all([a.close(), b.close()]);
}, 30_000);
