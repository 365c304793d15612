// What is composed as bytes is what JSON.stringify would make of it.
import { expect, test } from "bun:test";
import type { LogRow } from "../../src/db/db.ts";
import { type Composed, encode, roomFor } from "../../src/net/encode.ts";
import { type ConvKey, clock, MsgId } from "../../src/protocol.ts";
import { Ack, ChatPush } from "../../src/service/composed.ts";
import { pushOf, pushText } from "../../src/service/render.ts";

const TEXTS = [
  "",
  "hello",
  'quote " and \\',
  "\u0000\u001f\u007f\u2028",
  "é€😀 ö",
  "\u0001".repeat(300),
  "x".repeat(4_096),
];
const INTEGERS = [
  1,
  9,
  10,
  11,
  99,
  100,
  101,
  12_345,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 31 + 1,
  2 ** 32,
  Number.MAX_SAFE_INTEGER,
];
const TIMES = [1_795_549_202_117, 1_795_549_202_118, 1_795_549_203_000, 0];

/** The bytes of a message that is not composed may not go beyond its room. */
function textOf(message: Composed): string {
  const out = Buffer.alloc(roomFor(message));
  return out.toString("utf8", 4, encode(message, "length", out, 0));
}

test("an ack", () => {
  for (const ack of [MsgId.chat, MsgId.groupChat])
    for (const reqId of [undefined, 0, 7, -3, 'r"1', "ö"])
      for (const [i, mid] of [null, "0000000001", 'm"\\1', "é€😀", "\u0001".repeat(64)].entries())
        for (const seq of INTEGERS) {
          const [conv, ts] = [`u:${i + 1}-${seq}`, TIMES[i % TIMES.length]!];
          const fields = { msgId: 1010, ack, reqId, errno: 0, mid: mid ?? undefined, conv, seq, time: clock(ts), ts };
          expect(textOf(new Ack(ack, reqId, mid, 7, conv, seq, ts))).toBe(JSON.stringify(fields));
        }
});

test("a push, to a user and to a group, each behind one that differs in a single field", () => {
  const pushes: [LogRow, string, ConvKey, string][] = [];
  const direct: ConvKey = { kind: "u", lo: 1, hi: 2 };
  const add = (row: Partial<Record<number, LogRow[number]>>, conv = "u:1-2", key = direct, name = "ann") =>
    pushes.push([Object.assign([5, 1, MsgId.chat, 1, 3, "m1", TIMES[0], "hi"], row) as LogRow, conv, key, name]);
  for (const text of TEXTS) add({ 7: text });
  for (const seq of INTEGERS) add({ 1: seq });
  for (const ts of TIMES) add({ 6: ts });
  for (const mid of [null, "m2", 'm"\\2', "é"]) add({ 5: mid });
  for (const name of ["bob", "é€😀", 'a"\\b']) add({}, "u:1-2", direct, name);
  for (const sender of [2, 1, 2]) add({ 3: sender });
  for (const other of [Number.MAX_SAFE_INTEGER, 7]) add({}, `u:1-${other}`, { kind: "u", lo: 1, hi: other });
  for (const group of [1, 2, 1])
    for (const sender of [1, 2]) add({ 2: MsgId.groupChat, 3: sender }, `g:${group}`, { kind: "g", lo: group, hi: 0 });
  add({ 3: 4 }, "u:4-4", { kind: "u", lo: 4, hi: 4 });
  for (const push of [...pushes, ...pushes.toReversed()]) {
    const message = pushOf(...push);
    expect(message).toBeInstanceOf(ChatPush);
    expect(textOf(message as Composed)).toBe(pushText(...push));
  }
});

test("a long text is pushed as text: it would be given six times its room", () => {
  const row: LogRow = [5, 1, MsgId.chat, 1, 3, null, TIMES[0]!, "x".repeat(4_097)];
  expect(pushOf(row, "u:1-2", { kind: "u", lo: 1, hi: 2 }, "ann")).toBeTypeOf("string");
});
