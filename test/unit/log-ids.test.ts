// The ids of conversations, once known, are not asked for again: of so many conversations, the last ones read.
import { expect, test } from "bun:test";
import type { Conversation } from "../../src/db/db.ts";
import { LogIds } from "../../src/db/log-ids.ts";

const MOST = 200_000;
const direct = (id: number): Conversation => ({ id, kind: 0, lo: 1, hi: id + 1, last_seq: 5, member_ver: 0 });

test("ids are known until forgotten, and the oldest go when there are too many", () => {
  const ids = new LogIds();
  const read = Array.from({ length: MOST }, (_, i) => direct(i + 1));
  ids.learn(read, new Map());
  const newest = { ...direct(MOST + 1), kind: 1, lo: 7, hi: 0 };
  const found = new Map<string, Conversation>();
  ids.learn([newest], found);
  expect([...found]).toEqual([["g:7", newest]]);
  const known = ids.find(["u:1-2", "u:1-3", "g:7", "g:8"]);
  expect(known.unknown).toEqual(["u:1-2", "g:8"]);
  expect([...known.found].map(([conv, { id }]) => [conv, id])).toEqual([
    ["u:1-3", 2],
    ["g:7", MOST + 1],
  ]);
  // What a transaction does to what it was given is its own.
  known.found.get("u:1-3")!.last_seq = 9;
  expect(ids.find(["u:1-3"]).found.get("u:1-3")).toEqual({ ...direct(2), last_seq: 0 });
  ids.forget("u:1-3");
  expect(ids.find(["u:1-3", "g:7"]).unknown).toEqual(["u:1-3"]);
  ids.clear();
  expect(ids.find(["g:7"]).unknown).toEqual(["g:7"]);
});
