import { expect, test } from "bun:test";
import { BETWEEN, escaped, innerOf, isDivisible, listOf } from "../../src/db/series.ts";
import { type Draft, messagesOf, singlesOf } from "../../src/model/drafts.ts";
import { Random } from "../soak/random.ts";
import { draftsOf } from "../store/series.ts";

const usual: Draft = { conv: "u:1-2", kind: 1004, sender: 1, device: 7, mid: null, time: 5_000, text: "text" };
const messages = (...list: Partial<Draft>[]): Draft[] => list.map((each) => ({ ...usual, ...each }));
const mids = (...list: (string | null)[]): Draft[] => messages(...list.map((mid) => ({ mid })));
/** How many messages each series has. */
const counts = (list: Draft[]): number[] => {
  const [drafts, pieces] = draftsOf(list);
  expect([...messagesOf(drafts, pieces)]).toEqual(list);
  return drafts.convs.map((_, i) => drafts.counts?.[i] ?? 1);
};

test("what a device sends to a conversation at once is a series", () => {
  expect(counts([])).toEqual([]);
  expect(counts(messages({}, {}, {}))).toEqual([3]);
  const other: Partial<Draft>[] = [{ conv: "u:1-3" }, { kind: 1008 }, { sender: 2 }, { device: 8 }, { time: 5_001 }];
  for (const each of other) {
    expect(counts(messages({}, {}, each))).toEqual([2, 1]);
    expect(counts(messages({}, each, each, {}))).toEqual([1, 2, 1]);
  }
});

test("within a series mids are countable and grow, or there are none", () => {
  expect(counts(mids("8", "9", "10", "11", "m1", "m2"))).toEqual([6]);
  expect(counts(mids("2", "1", "2"))).toEqual([1, 2]);
  expect(counts(mids("1", "1"))).toEqual([1, 1]);
  expect(counts(mids("10", "9"))).toEqual([1, 1]);
  expect(counts(mids(null, "1", "2", null, null))).toEqual([1, 2, 2]);
  for (const odd of ["é", "a b", "x".repeat(65)]) expect(counts(mids("1", odd, `${odd}9`, "2"))).toEqual([1, 1, 1, 1]);
});

test("a series' first and last mid are told, and how many it has, unless all are of one message", () => {
  const [several] = draftsOf(mids("5", "6", "7", "é"));
  expect(several).toMatchObject({ lows: ["5", "é"], tops: ["7", "é"], counts: [3, 1] });
  expect(draftsOf(mids("7", "6"))[0]).toMatchObject({ lows: ["7", "6"], tops: null, counts: null });
  const ending = draftsOf(mids("7", "6").map((each) => ({ ...each, text: '",' })));
  expect(ending[0]).toMatchObject({ lows: ["7", "6"], tops: ["7", "6"], counts: [1, 1] });
});

test("a series holds about a page, and a longer text is one by itself", () => {
  const sizes = counts(messages(...Array.from({ length: 100 }, () => ({ text: "x".repeat(64) }))));
  expect(sizes.reduce((sum, count) => sum + count)).toBe(100);
  expect(Math.max(...sizes) * 64).toBeLessThan(4_096);
  expect(sizes[0]!).toBeGreaterThan(16);
  expect(counts(messages({}, { text: "x".repeat(65_000) }, {}))).toEqual([1, 1, 1]);
});

test("whatever the texts are, no piece holds a line feed, and each comes back", () => {
  const texts = ["", "two\nlines\r\n", '"\\', "\u0000\u2028", "\ud800", "é😀", '","', "[]"];
  const list = messages(...texts.map((text) => ({ text })), { mid: '"\\\n' }, { mid: '"1', text: "\n" }, { mid: '"2' });
  expect(counts(list)).toEqual([texts.length, 1, 2]);
  expect(counts(list.map((each, i) => ({ ...each, sender: i })))).toEqual(list.map(() => 1));
  expect([...messagesOf(...singlesOf(list))]).toEqual(list);
  for (const [, pieces] of [draftsOf(list), singlesOf(list)])
    for (const piece of pieces.list) {
      expect(piece).not.toContain("\n");
      expect(() => listOf(piece)).not.toThrow();
    }
});

test("what quote, comma, quote put together they take apart, unless it is not divisible", () => {
  const random = new Random(1);
  const text = () => Array.from({ length: random.int(0, 5) }, () => random.pick(['"', ",", "\\", "a", "\n"])).join("");
  let divisible = 0;
  for (let round = 0; round < 20_000; round++) {
    const list = Array.from({ length: random.int(1, 5) }, text);
    const inner = innerOf(list);
    expect(list.map(escaped).join(BETWEEN)).toBe(inner);
    expect(counts(messages(...list.map((each, i) => ({ text: each, sender: i }))))).toEqual(list.map(() => 1));
    if (!isDivisible(inner)) continue;
    divisible++;
    expect(inner.split(BETWEEN).flatMap(listOf)).toEqual(list);
  }
  expect(divisible).toBeGreaterThan(10_000);
  expect(divisible).toBeLessThan(20_000);
});
