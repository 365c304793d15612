import { expect, test } from "bun:test";
import type { Drafts } from "../../src/model/message.ts";
import { writers } from "../../src/model/plan.ts";

const batch = (times: number[]): Drafts => ({
  convs: ["u:1-2", "u:1-3"],
  kinds: [1004, 1004],
  senders: [1, 1],
  devices: [7, 7],
  mids: ["a", null],
  times,
  texts: ["one", "two"],
});

test("batches that are divided and put together anew keep each message's own time, said once or for each", () => {
  const { rowsOf, batchOf } = writers.batches;
  const together = batchOf([...rowsOf(batch([5_000])).reverse(), ...rowsOf(batch([6_000, 7_000]))]);
  expect(together).toEqual({
    convs: ["u:1-3", "u:1-2", "u:1-2", "u:1-3"],
    kinds: [1004, 1004, 1004, 1004],
    senders: [1, 1, 1, 1],
    devices: [7, 7, 7, 7],
    mids: [null, "a", "a", null],
    times: [5_000, 5_000, 6_000, 7_000],
    texts: ["two", "one", "one", "two"],
  });
});
