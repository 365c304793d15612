// Group commit: the time of a message is when its own turn of the loop took it, whatever waited before it; and what is delivered
// of a batch is what is new in the log.
import { expect, test } from "bun:test";
import type { Drafts } from "../../src/model/drafts.ts";
import type { Store } from "../../src/model/store.ts";
import { Errno } from "../../src/protocol.ts";
import { type ChatRequest, Committer } from "../../src/service/committer.ts";
import type { Delivery, Hint } from "../../src/service/delivery.ts";
import type { Log } from "../../src/service/log.ts";
import { until } from "../harness.ts";

test("a message that comes when the store is back is not as old as those that have waited for it", async () => {
  const waiting: (() => void)[] = [];
  const append = () => new Promise((_, reject) => waiting.push(() => reject(new Error("away"))));
  const silent = { error: () => undefined } as unknown as Log;
  const committer = new Committer({ append } as unknown as Store, {} as Delivery, 60_000, silent);
  const connection = { answer: () => undefined };
  const add = () => {
    const at = committer.turnAt;
    const session = { userId: 1 };
    committer.add({
      connection,
      session,
      conv: "u:1-2",
      mid: null,
      text: "",
      msgId: 1004,
      at,
    } as unknown as ChatRequest);
    return at;
  };
  // Until no more batches are in flight, and one waits.
  for (let sent = 0; sent === waiting.length; sent++) {
    add();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const before = add();
  expect(add()).toBeGreaterThanOrEqual(before);
  await until(() => performance.now() > before + 50, "time has passed");
  const back = performance.now();
  waiting[0]!();
  await Promise.resolve().then(() => Promise.resolve());
  await Promise.resolve();
  expect(committer.turnAt).toBeGreaterThanOrEqual(back);
  committer.stop();
});

test("of a batch only what is new in the log is delivered: neither what is refused nor what repeats a message", async () => {
  const appended = {
    seqs: [4, 0, 2, 5],
    conversations: [7, 7, 7, 7],
    counts: null,
    refused: [[1, Errno.forbidden, "groupid: no", ""]],
    repeated: [[2, 1_000]],
    memberVersions: [[7, 3]],
  };
  const delivered: [seq: number, mid: string | null, memberVersion: number][] = [];
  const deliver = ({ row, memberVersion }: Hint) => delivered.push([row[1], row[5], memberVersion]);
  const store = { append: async () => appended } as unknown as Store;
  const committer = new Committer(store, { deliver } as unknown as Delivery, 60_000, {} as Log);
  const answered: number[] = [];
  const connection = { answer: (slot: number) => answered.push(slot) };
  const request = { connection, session: { userId: 1 }, conv: "g:1", text: "", msgId: 1008, at: performance.now() };
  for (const [slot, mid] of ["new", "refused", "repeated", "newer"].entries())
    committer.add({ ...request, slot, mid } as unknown as ChatRequest);
  await until(() => delivered.length > 1, "what is new is delivered");
  committer.stop();
  expect(delivered).toEqual([
    [4, "new", 3],
    [5, "newer", 3],
  ]);
  expect(answered.toSorted()).toEqual([0, 1, 2, 3]);
});

test("each message of a batch that the store fails on is answered 19, once", async () => {
  const append = async () => Promise.reject(new Error("away"));
  const silent = { error: () => undefined } as unknown as Log;
  const committer = new Committer({ append } as unknown as Store, {} as Delivery, 60_000, silent);
  const answers: object[] = [];
  const connection = { answer: (_: number, text: string) => answers.push(JSON.parse(text)) };
  const request = { connection, session: { userId: 1 }, conv: "u:1-2", text: "", msgId: 1004, at: performance.now() };
  for (const mid of ["a", "b"]) committer.add({ ...request, mid } as unknown as ChatRequest);
  await until(() => answers.length > 0, "they are answered");
  committer.stop();
  expect(answers).toMatchObject(["a", "b"].map((mid) => ({ ack: 1004, errno: Errno.unavailable, mid })));
});

/** The sizes of the batches, where so many messages come in each turn of the loop. */
async function batchesOf(...arrivals: number[]): Promise<number[]> {
  const batches: number[] = [];
  const append = ({ convs }: Drafts) => {
    batches.push(convs.length);
    return new Promise(() => undefined);
  };
  const committer = new Committer({ append } as unknown as Store, {} as Delivery, 60_000, {} as Log);
  let added = 0;
  for (const count of arrivals) {
    for (const end = added + count; added < end; added++) {
      const request = { session: { userId: 1 }, conv: `u:1-${added}`, text: "", msgId: 1004, at: performance.now() };
      committer.add({ ...request, mid: null } as unknown as ChatRequest);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until(() => batches.reduce((sum, count) => sum + count, 0) === added, "all are committed");
  committer.stop();
  return batches;
}

test("messages of one turn of the loop are one batch", async () => {
  expect(await batchesOf(1, 7, 64, 7)).toEqual([1, 7, 64, 7]);
});

test("a crowd's messages are gathered for some turns, while each brings more and they are no large batch yet", async () => {
  expect(await batchesOf(8, 8, 1, 1, 8)).toEqual([18, 8]);
  expect(await batchesOf(8, 0, 8, 0, 7)).toEqual([8, 8, 7]);
  expect(await batchesOf(63, 1, 8, 56, 7)).toEqual([64, 64, 7]);
});

test("messages that were given up while they gathered are not committed", async () => {
  let batches = 0;
  const append = async () => batches++;
  const committer = new Committer({ append } as unknown as Store, {} as Delivery, 1, {} as Log);
  const answers: object[] = [];
  const connection = { answer: (_: number, text: string) => answers.push(JSON.parse(text)) };
  const at = performance.now();
  const request = { connection, session: { userId: 1 }, conv: "u:1-2", mid: null, text: "", msgId: 1004, at };
  for (let added = 0; added < 8; added++) committer.add({ ...request } as unknown as ChatRequest);
  // Long enough for the committer to look for those that have waited too long, before the next turn of the loop.
  while (performance.now() < at + 150);
  await until(() => answers.length === 8, "they are answered");
  for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
  committer.stop();
  expect(batches).toBe(0);
  expect(answers).toMatchObject(Array(8).fill({ ack: 1004, errno: Errno.unavailable }));
});
