import { expect, test } from "bun:test";
import { Reorder } from "../../src/service/reorder.ts";
import { until } from "../harness.ts";

function start(): { passed: number[]; take(...seqs: number[]): void } {
  const passed: number[] = [];
  const reorder = new Reorder<number>((seq) => passed.push(seq));
  return { passed, take: (...seqs) => seqs.forEach((seq) => void reorder.take(1, seq, seq)) };
}

test("what is early waits for the row ahead, however many are", () => {
  const { passed, take } = start();
  take(7, 9, 10, 12);
  expect(passed).toEqual([7]);
  take(8);
  expect(passed).toEqual([7, 8, 9, 10]);
  take(11, 13);
  expect(passed).toEqual([7, 8, 9, 10, 11, 12, 13]);
});

test("a row ahead that does not come holds nothing for good, and is passed on when it does", async () => {
  const { passed, take } = start();
  take(1, 4, 3);
  await until(() => passed.length === 3, "what is early is passed on");
  expect(passed).toEqual([1, 3, 4]);
  take(2, 5);
  expect(passed).toEqual([1, 3, 4, 2, 5]);
});

test("a second gap behind the first is waited for too", async () => {
  const { passed, take } = start();
  take(1, 3, 5);
  take(2);
  expect(passed).toEqual([1, 2, 3]);
  await until(() => passed.length === 4, "what is early is passed on");
  expect(passed.at(-1)).toBe(5);
});

test("not more than a bounded number is held", () => {
  const { passed, take } = start();
  take(1);
  for (let seq = 3; passed.length === 1; seq++) {
    if (seq > 10_000) throw new Error("10,000 are held");
    take(seq);
  }
  expect(passed).toEqual([...passed].sort((a, b) => a - b));
});

test("conversations do not wait for each other, and repetitions pass", () => {
  const passed: string[] = [];
  const reorder = new Reorder<string>((each) => passed.push(each));
  reorder.take(1, 5, "1/5");
  reorder.take(2, 1, "2/1");
  reorder.take(1, 7, "1/7");
  reorder.take(2, 2, "2/2");
  reorder.take(2, 2, "2/2");
  expect(passed).toEqual(["1/5", "2/1", "2/2", "2/2"]);
  reorder.take(1, 6, "1/6");
  expect(passed.slice(4)).toEqual(["1/6", "1/7"]);
});
