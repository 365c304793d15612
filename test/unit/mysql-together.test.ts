// Calls that many make at once: which of them share a transaction, how many there are of these, and who waits for whom.
import { expect, test } from "bun:test";
import { ALONE, type Call, StoreError } from "../../src/db/db.ts";
import { Gathering } from "../../src/db/mysql-together.ts";
import { ChatError, Errno } from "../../src/protocol.ts";
import { until } from "../harness.ts";

/** A gathering whose transactions end when told to. */
function begin(atOnce: number) {
  /** The transactions under way. */
  const under: { calls: Call[]; end(outcomes: unknown[]): void; fail(error: Error): void }[] = [];
  const alone: Call[] = [];
  const runAll = (calls: Call[]) => {
    const { promise, resolve, reject } = Promise.withResolvers<unknown[]>();
    under.push({ calls, end: resolve, fail: reject });
    return promise;
  };
  const runAlone = (call: Call) => {
    alone.push(call);
    return new Promise<never>(() => undefined);
  };
  const gathering = new Gathering(runAll, runAlone, atOnce);
  const add = (count: number) => Array.from({ length: count }, (_, i) => gathering.add(["call", [i]]));
  /** Ends the first transaction. */
  const end = (outcomeOf: (i: number) => unknown = () => undefined) => {
    const { calls, end } = under.shift()!;
    end(calls.map((_, i) => outcomeOf(i)));
    return Bun.sleep(0);
  };
  const sizes = () => under.map(({ calls }) => calls.length);
  return { gathering, add, under, alone, end, sizes };
}

/** Ends the microtasks of this turn; no timer fires meanwhile. */
async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await Promise.resolve();
}

test("calls of one turn share a transaction; so do those that come while one is under way", async () => {
  const { add, end, sizes } = begin(2);
  for (const count of [3, 1, 1, 1]) {
    add(count);
    await settle();
  }
  expect(sizes()).toEqual([3]);
  await end();
  expect(sizes()).toEqual([3]);
  await end();
  expect(sizes()).toEqual([]);
  // And again when all were done.
  add(4);
  await settle();
  expect(sizes()).toEqual([4]);
});

test("where that takes long they get another one beside it, as far as that is allowed", async () => {
  const { add, end, sizes } = begin(2);
  add(3);
  await settle();
  add(2);
  await until(() => sizes().length === 2, "the second is under way");
  expect(sizes()).toEqual([3, 2]);
  add(1);
  await Bun.sleep(20);
  expect(sizes()).toEqual([3, 2]);
  await end();
  expect(sizes()).toEqual([2, 1]);
});

test("nor do those who come later wait for one that takes long, also right behind a quick one", async () => {
  const { add, under, sizes } = begin(3);
  add(3);
  await Bun.sleep(20);
  // As many as begin at once.
  add(200);
  await settle();
  under.pop()!.end(Array(200));
  await Bun.sleep(0);
  expect(sizes()).toEqual([3]);
  add(1);
  await until(() => sizes().length === 2, "the later one is under way");
});

test("so do those that are left when a transaction is full", async () => {
  const { add, sizes } = begin(4);
  add(1);
  await settle();
  add(201);
  await until(() => sizes().length === 3, "the rest is under way too");
  expect(sizes()).toEqual([1, 200, 1]);
});

test("as many as fill a transaction do not wait for the one under way", async () => {
  const { add, sizes } = begin(2);
  add(3);
  await settle();
  add(199);
  await settle();
  expect(sizes()).toEqual([3]);
  add(1);
  await settle();
  expect(sizes()).toEqual([3, 200]);
});

test("very many are divided, one transaction after the other; more than can wait are refused", async () => {
  const { gathering, add, end, sizes } = begin(1);
  add(100_000);
  expect(() => void gathering.add(["call", []])).toThrow(StoreError);
  await Bun.sleep(0);
  expect(sizes()).toEqual([200]);
  await end();
  expect(sizes()).toEqual([200]);
  gathering.add(["call", []]);
});

test("each has its own outcome, and nobody waits for one that is run alone", async () => {
  const { add, alone, end } = begin(1);
  const calls = add(3);
  const refusal = new ChatError(Errno.forbidden, "no");
  const others = Promise.allSettled(calls.slice(1));
  await Bun.sleep(0);
  await end((i) => [ALONE, refusal, "done"][i]);
  expect(alone).toEqual([["call", [0]]]);
  expect(await others).toMatchObject([{ reason: refusal }, { value: "done" }]);
});

test("where the transaction fails all of it are told, and the next ones are run", async () => {
  const { add, under, end } = begin(1);
  const calls = Promise.allSettled(add(2));
  await Bun.sleep(0);
  const next = add(1)[0];
  const lost = new StoreError("lost");
  under.shift()!.fail(lost);
  expect((await calls).map((each) => each.status === "rejected" && each.reason)).toEqual([lost, lost]);
  await Bun.sleep(0);
  await end(() => "done");
  expect(await next).toBe("done");
});
