import { expect, test } from "bun:test";
import { messagesOf } from "../../src/model/drafts.ts";
import { writers } from "../../src/model/plan.ts";
import { draftsOf } from "../store/series.ts";

const message = (conv: string, mid: string | null, time: number, text: string) => ({
  conv,
  kind: 1004,
  sender: 1,
  device: 7,
  mid,
  time,
  text,
});
const first = [
  message("u:1-2", "a1", 5_000, "one"),
  message("u:1-2", "a2", 5_000, "two"),
  message("u:1-3", null, 5_000, ""),
];
const second = [message("u:1-2", "a3", 6_000, "three"), message("u:1-2", null, 7_000, "four")];

test("batches that are divided and put together anew keep each message as it is", () => {
  const { rowsOf, batchOf } = writers.batches;
  expect(rowsOf(draftsOf(first))).toEqual(first);
  const together = batchOf([...rowsOf(draftsOf(first)).reverse(), ...rowsOf(draftsOf(second))]);
  expect([...messagesOf(...together)]).toEqual([...first.toReversed(), ...second]);
});
