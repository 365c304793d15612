import { expect, test } from "bun:test";
import { messagesOf } from "../../src/model/drafts.ts";
import type { Appended } from "../../src/model/message.ts";
import { writers } from "../../src/model/plan.ts";
import { Errno } from "../../src/protocol.ts";
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

test("what becomes of messages, divided and put together anew, is what became of each", () => {
  const { outcomesOf, resultOf, refuse } = writers.batches;
  const [old, group] = [4_000, 9];
  const [mine, others] = [
    {
      seqs: [3, 0, 4],
      conversations: [group, 8, 7],
      counts: null,
      refused: [[1, Errno.forbidden, "groupid: no", "groupid"]],
      repeated: [[2, old]],
      memberVersions: [[group, 5]],
    },
    { seqs: [5], conversations: [group], counts: null, refused: [], repeated: [], memberVersions: [[group, 6]] },
  ] as [Appended, Appended];
  const outcomes = [...outcomesOf(others), ...outcomesOf(mine), refuse(first[0]!, Errno.unavailable, "away")];
  expect(resultOf(outcomes)).toEqual({
    seqs: [5, 3, 0, 4, 0],
    conversations: [group, group, 8, 7, 0],
    counts: null,
    refused: [
      [2, Errno.forbidden, "groupid: no", "groupid"],
      [4, Errno.unavailable, "away", ""],
    ],
    repeated: [[3, old]],
    // The newest one: an older one would deliver to those who were members then.
    memberVersions: [[group, 6]],
  });
});
