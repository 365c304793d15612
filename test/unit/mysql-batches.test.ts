// Group commit in a lane: what becomes of the rows of several callers that are one transaction, where it fails, is tried again
// or takes too long.
import { expect, test } from "bun:test";
import { type Head, StoreError } from "../../src/db/db.ts";
import { type AnyPlan, BatchLane } from "../../src/db/mysql-batches.ts";
import { DatabaseError } from "../../src/db/mysql-connection.ts";
import type { Lane } from "../../src/db/mysql-lane.ts";
import type { MysqlTx } from "../../src/db/mysql-tx.ts";
import { Errno } from "../../src/protocol.ts";
import { until } from "../harness.ts";

const MOVED: Head = [1, "u:1-2", 3, 0];
const tx = { log: { heads: () => [MOVED] } } as unknown as MysqlTx;
/** Rows are texts; what becomes of one is its text in capitals, or the errno of its refusal. */
const plan = {
  batchOf: (rows: string[]) => rows,
  sizeOf: (row: string) => row.length,
  outcomesOf: (rows: string[]) => rows.map((row) => row.toUpperCase()),
  refuse: (_: string, errno: number) => errno,
} as unknown as AnyPlan;
const LONG_MS = 20_000;

/** A lane whose transactions are done as `transact` says: it may run the work several times. Notes what is stored. */
function lane(transact: (work: () => Promise<unknown>, stored: string[][]) => Promise<unknown>) {
  const stored: string[][] = [];
  const late: Head[] = [];
  const transactions = {
    transact: (work: (tx: MysqlTx) => Promise<unknown>) => transact(() => work(tx), stored),
  } as unknown as Lane;
  const run = async (_: MysqlTx, batch: unknown[]) => {
    stored.push(batch as string[]);
    return batch;
  };
  const batches = new BatchLane<string, string | number>(transactions, plan, run, (heads) => late.push(...heads));
  return { batches, stored, late };
}

const ofData = new DatabaseError("ER_DATA_TOO_LONG", 1406, "22001", "too long");

test("what comes together is one transaction, what comes meanwhile is the next one", async () => {
  const begun = Promise.withResolvers<void>();
  const { batches, stored } = lane(async (work) => {
    await begun.promise;
    return work();
  });
  const first = [batches.add(["a", "b"], LONG_MS), batches.add(["c"], LONG_MS)];
  await Bun.sleep(0);
  const next = [batches.add(["d"], LONG_MS), batches.add(["e"], LONG_MS)];
  begun.resolve();
  expect(await Promise.all([...first, ...next])).toEqual([["A", "B"], ["C"], ["D"], ["E"]]);
  expect(stored).toEqual([
    ["a", "b", "c"],
    ["d", "e"],
  ]);
});

test("a caller whose time is over gets an error, and what it asked for is not tried again", async () => {
  const goOn = Promise.withResolvers<void>();
  let transactions = 0;
  const { batches, stored, late } = lane(async (work, tried) => {
    transactions++;
    await work();
    await goOn.promise;
    // As after a lost connection: nothing of it was committed.
    tried.length = 0;
    return work();
  });
  const impatient = Promise.allSettled([batches.add(["unknown"], 1)]);
  const patient = batches.add(["kept"], LONG_MS);
  await Bun.sleep(0);
  const waiting = Promise.allSettled([batches.add(["never begun"], 1)]);
  const told = [...(await impatient), ...(await waiting)];
  expect(told.map((each) => each.status === "rejected" && each.reason instanceof StoreError)).toEqual([true, true]);
  goOn.resolve();
  expect(await patient).toEqual(["KEPT"]);
  await Bun.sleep(0);
  expect(stored).toEqual([["kept"]]);
  expect(await batches.add(["next"], LONG_MS)).toEqual(["NEXT"]);
  expect(stored).toEqual([["next"]]);
  expect(transactions).toBe(2);
  // Nothing was committed of which somebody had been told that it is unknown.
  expect(late).toEqual([]);
});

test("what is committed after its caller was told that it is unknown is told to who delivers", async () => {
  const goOn = Promise.withResolvers<void>();
  const { batches, late } = lane(async (work) => {
    const value = await work();
    await goOn.promise;
    return value;
  });
  await expect(batches.add(["late"], 1)).rejects.toBeInstanceOf(StoreError);
  goOn.resolve();
  await until(() => late.length > 0, "it is told");
  expect(late).toEqual([MOVED]);
});

test("rows that are at fault are refused alone, however many there are", async () => {
  const bad = (rows: string[]) => rows.some((row) => row.startsWith("bad"));
  const { batches, stored } = lane(async (work, tried) => {
    const value = await work();
    if (bad(tried.at(-1)!)) {
      tried.pop();
      throw ofData;
    }
    return value;
  });
  const parts = [["a", "bad 1", "b"], ["bad 2"], ["c", "d", "bad 3"]];
  const outcomes = await Promise.all(parts.map((rows) => batches.add(rows, LONG_MS)));
  expect(outcomes).toEqual([["A", Errno.tooLarge, "B"], [Errno.tooLarge], ["C", "D", Errno.tooLarge]]);
  // In order.
  expect(stored.flat()).toEqual(["a", "b", "c", "d"]);
});

// Scenario: a batch is divided for the sake of one row, and the database goes away between the halves.
test.each([0, 1])("where half %d is not stored, who has rows in the other one too is told what is", async (lost) => {
  let transactions = 0;
  const { batches } = lane(async (work) => {
    const value = await work();
    const half = transactions++ - 1;
    if (half < 0) throw ofData;
    if (half === lost) throw new StoreError("away");
    return value;
  });
  const told = ["A", "B"].map((outcome, half) => (half === lost ? Errno.unavailable : outcome));
  expect(await batches.add(["a", "b"], LONG_MS)).toEqual(told);
});

test("where nothing is stored all who asked get the error", async () => {
  const away = new StoreError("away");
  const { batches } = lane(() => Promise.reject(away));
  const outcomes = await Promise.allSettled([batches.add(["a", "b"], LONG_MS), batches.add(["c"], LONG_MS)]);
  expect(outcomes.map((each) => each.status === "rejected" && each.reason)).toEqual([away, away]);
});

test("rows beyond the bounds of a transaction are the next one's; one call's stay together, however many they are", async () => {
  const { batches, stored } = lane((work) => work());
  const many = (count: number, size = 1) => Array.from({ length: count }, () => "x".repeat(size));
  const parts = [many(600), many(600), many(2_500), many(3, 400_000), many(1, 400_000)];
  const outcomes = await Promise.all(parts.map((rows) => batches.add(rows, LONG_MS)));
  expect(outcomes.map(({ length }) => length)).toEqual(parts.map(({ length }) => length));
  expect(stored.map(({ length }) => length)).toEqual([600, 600, 2_500, 3, 1]);
});
