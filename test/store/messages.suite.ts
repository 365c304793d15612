// What every store must do with messages: part of store.suite.ts.
import { beforeAll, expect, test } from "bun:test";
import type { LogRow } from "../../src/db/db.ts";
import type { Store } from "../../src/model/store.ts";
import { directConv, Errno, groupConv, MsgId } from "../../src/protocol.ts";
import { byMessage, draftsOf } from "./series.ts";

interface Draft {
  conv: string;
  sender: number;
  text: string;
  mid?: string;
  device?: number;
  ts?: number;
  kind?: number;
}

export const drafts = (...list: Draft[]) =>
  draftsOf(
    list.map(({ conv, sender, text, mid = null, device = 0, ts = 1_000, kind }) => {
      const usual = conv.startsWith("g") ? MsgId.groupChat : MsgId.chat;
      return { conv, kind: kind ?? usual, sender, device, mid, time: ts, text };
    }),
  );

/** The store under test. */
export interface Opened {
  store(): Store;
  /** Closes the store, and opens it again. */
  reopen(): Promise<Store>;
  user(): Promise<number>;
  /** Everything a device lacks, page by page as a session reads it. */
  readAll(userId: number, device: number, wants: [number, number | null][], rows?: number): Promise<LogRow[]>;
}

export function messageTests({ store: opened, reopen, user, readAll }: Opened): void {
  let store: Store;
  beforeAll(() => {
    store = opened();
  });

  test("seqs count 1, 2, 3 in each conversation, across batches and within one", async () => {
    const [a, b, c] = [await user(), await user(), await user()];
    const [ab, ac] = [directConv(a, b), directConv(a, c)];
    const first = await store.append(
      ...drafts(
        { conv: ab, sender: a, text: "1" },
        { conv: ac, sender: a, text: "1" },
        { conv: ab, sender: b, text: "2" },
      ),
    );
    const second = await store.append(
      ...drafts({ conv: ab, sender: b, text: "3" }, { conv: ac, sender: c, text: "2" }),
    );
    expect(first.seqs).toEqual([1, 1, 2]);
    expect(second.seqs).toEqual([3, 2]);
    const rows = await readAll(b, 0, [[first.conversations[0]!, 0]]);
    expect(rows.map((row) => [row[1], row[7]])).toEqual([
      [1, "1"],
      [2, "2"],
      [3, "3"],
    ]);
  });

  test("a batch of thousands in many conversations keeps every order", async () => {
    const a = await user();
    const others = await Promise.all(Array.from({ length: 20 }, user));
    const list = Array.from({ length: 3_000 }, (_, i) => ({
      conv: directConv(a, others[(i * 7) % 20]!),
      sender: a,
      text: `${i}`,
      mid: `m${i}`,
    }));
    const { seqs, conversations, refused } = await store.append(...drafts(...list));
    expect(refused).toEqual([]);
    for (let k = 0; k < 20; k++) {
      const mine = list.map((_, i) => i).filter((i) => (i * 7) % 20 === k);
      expect(mine.map((i) => seqs[i]!)).toEqual(mine.map((_, at) => at + 1));
      const rows = await readAll(others[k]!, 0, [[conversations[mine[0]!]!, 0]], 64);
      expect(rows.map((row) => row[7])).toEqual(mine.map(String));
    }
  });

  test("a repeated mid gets the first one's seq and time, in the same batch, a later one and after a restart", async () => {
    const [a, b] = [await user(), await user()];
    const conv = directConv(a, b);
    const message = { conv, sender: a, text: "once", mid: "m", ts: 5_000 };
    const first = await store.append(
      ...drafts(message, { ...message, ts: 6_000 }, { conv, sender: b, text: "own", mid: "m" }),
    );
    expect(first.seqs).toEqual([1, 1, 2]);
    expect(first.repeated).toEqual([[1, 5_000]]);
    store = await reopen();
    const again = await store.append(...drafts({ conv, sender: a, text: "new" }, { ...message, ts: 7_000 }));
    expect(again.seqs).toEqual([3, 1]);
    expect(again.repeated).toEqual([[1, 5_000]]);
    expect((await readAll(b, 0, [[first.conversations[0]!, 0]])).map((row) => row[7])).toEqual(["once", "own", "new"]);
  });

  test("a mid used for another message is refused, and what was with it in the batch is stored", async () => {
    const [a, b] = [await user(), await user()];
    const conv = directConv(a, b);
    await store.append(...drafts({ conv, sender: a, text: "first", mid: "x" }));
    const { seqs, refused } = await store.append(
      ...drafts(
        { conv, sender: a, text: "before" },
        { conv, sender: a, text: "other", mid: "x" },
        { conv, sender: a, text: "after", mid: "y" },
      ),
    );
    expect(seqs).toEqual([2, 0, 3]);
    expect(refused.map(([index, errno, , field]) => [index, errno, field])).toEqual([[1, Errno.invalidField, "mid"]]);
  });

  test("mids compare by bytes and belong to a sender and a conversation", async () => {
    const [a, b, c] = [await user(), await user(), await user()];
    const list = [
      { conv: directConv(a, b), sender: a, text: "1", mid: "k" },
      { conv: directConv(a, b), sender: a, text: "2", mid: "K" },
      { conv: directConv(a, b), sender: a, text: "3", mid: "k " },
      { conv: directConv(a, c), sender: a, text: "4", mid: "k" },
    ];
    expect((await store.append(...drafts(...list))).seqs).toEqual([1, 2, 3, 1]);
  });

  test("unknown receivers, unknown groups and strangers are refused one by one", async () => {
    const [a, b] = [await user(), await user()];
    const group = await store.createGroup(b, "closed", "");
    const { seqs, refused } = await store.append(
      ...drafts(
        { conv: directConv(a, 999_999), sender: a, text: "?" },
        { conv: groupConv(999_999), sender: a, text: "?" },
        { conv: groupConv(group), sender: a, text: "?" },
        { conv: directConv(a, b), sender: a, text: "fine" },
      ),
    );
    expect(seqs).toEqual([0, 0, 0, 1]);
    // Each message names the id that is wrong.
    expect(refused.map(([index, errno, errmsg]) => [index, errno, Number(/\d+/.exec(errmsg))])).toEqual([
      [0, Errno.notFound, 999_999],
      [1, Errno.notFound, 999_999],
      [2, Errno.forbidden, group],
    ]);
  });

  test("a page is bounded by its text, and a large message comes alone", async () => {
    const [a, b] = [await user(), await user()];
    const conv = directConv(a, b);
    const large = "x".repeat(60_000);
    const { conversations } = await store.append(
      ...drafts(...Array.from({ length: 10 }, () => ({ conv, sender: a, text: large }))),
    );
    const { rows, found } = await store.backlog([b, 0], [[conversations[0]!, 0]], 100, 100_000);
    expect(rows.map((row) => row[1])).toEqual([1, 2]);
    expect(found).toEqual([[0, 10, conv]]);
    expect((await store.backlog([b, 0], [[conversations[0]!, 2]], 100, 1)).rows.map((row) => row[1])).toEqual([3]);
  });

  test("messages that come together are stored, read, repeated and refused one by one", async () => {
    const [a, b] = [await user(), await user()];
    const conv = directConv(a, b);
    const numbered = (from: number, to: number, text = "text") =>
      Array.from({ length: to - from + 1 }, (_, i) => ({
        conv,
        sender: a,
        device: 5,
        text: `${text} ${from + i}`,
        mid: `m${100 + from + i}`,
      }));
    const append = async (...list: Parameters<typeof drafts>) => byMessage(await store.append(...drafts(...list)));
    const { seqs, conversations } = await append(...numbered(1, 40));
    expect(seqs).toEqual(Array.from({ length: 40 }, (_, i) => 1 + i));
    const texts = (await readAll(b, 0, [[conversations[0]!, 17]], 6)).map((row) => [row[1], row[5], row[7]]);
    expect(texts).toEqual(numbered(18, 40).map(({ mid, text }, i) => [18 + i, mid, text]));
    const again = await append(...numbered(31, 50));
    expect(again.seqs).toEqual(Array.from({ length: 20 }, (_, i) => 31 + i));
    expect(again.repeated).toEqual(Array.from({ length: 10 }, (_, i) => [i, 1_000]));
    const other = await append(...numbered(49, 52, "another text"));
    expect(other.seqs).toEqual([0, 0, 51, 52]);
    expect(other.refused.map(([index, errno]) => [index, errno])).toEqual([
      [0, Errno.invalidField],
      [1, Errno.invalidField],
    ]);
    const unknown = await append(
      ...[60, 61, 62].map((n) => ({ conv: groupConv(999_999), sender: a, text: `${n}` })),
      ...numbered(53, 53),
      ...numbered(60, 61).map((each) => ({ ...each, conv: directConv(a, 999_999) })),
    );
    expect(unknown.seqs).toEqual([0, 0, 0, 53, 0, 0]);
    expect(unknown.refused.map(([index, errno]) => [index, errno])).toEqual(
      [0, 1, 2, 4, 5].map((index) => [index, Errno.notFound]),
    );
    const nameless = Array.from({ length: 3 }, (_, n) => ({ conv: directConv(b, 999_999), sender: b, text: `${n}` }));
    expect((await append(...nameless)).refused.map(([index]) => index)).toEqual([0, 1, 2]);
    // Not to the device that sent them.
    const { rows } = await store.backlog([a, 6], [[conversations[0]!, 50]], 100, 100_000);
    expect(rows.map((row) => row[7])).toEqual(["another text 51", "another text 52", "text 53"]);
    const unsent = async (device: number) => (await store.missingOf(a, device)).offline;
    expect([await unsent(5), await unsent(6)]).toEqual([0, 53]);
  });

  test("every text comes back as it was written", async () => {
    const [a, b] = [await user(), await user()];
    const conv = directConv(a, b);
    const texts = [
      "",
      "\u0000",
      "naïve 😀 \u2028",
      "two\nlines\r\n",
      '"\\',
      "'; DROP TABLE user; --",
      'so "it", she said, ",',
      '","',
      "x".repeat(65_000),
    ];
    const { conversations } = await store.append(
      ...drafts(...texts.map((text, i) => ({ conv, sender: a, text, mid: `${text.slice(0, 60)}${i}` }))),
    );
    expect((await readAll(b, 0, [[conversations[0]!, 0]])).map((row) => row[7])).toEqual(texts);
    const repeated = await store.append(
      ...drafts(...texts.map((text, i) => ({ conv, sender: a, text, mid: `${text.slice(0, 60)}${i}` }))),
    );
    expect(repeated.seqs).toEqual(texts.map((_, i) => i + 1));
  });
}
