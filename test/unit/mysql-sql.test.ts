// Statements of many keys: short enough for any packet, every key in one of them, and the same order of locks for all.
import { expect, test } from "bun:test";
import { compareKeys, selects, statement } from "../../src/db/mysql-sql.ts";

test.each([
  ["short", "x", 3],
  ["long", "😀".repeat(64), 17],
])("%s keys are divided among statements that a small packet holds", (_, text, count) => {
  const keys = Array.from({ length: 2_000 }, (_, i): [number, string] => [i, `${text}${i}`]);
  const statements = selects("mid", ["seq"], ["sender", "mid"], keys);
  expect(statements).toHaveLength(count);
  for (const statement of statements) expect(Buffer.byteLength(statement)).toBeLessThan(34_000);
  const found = statements.flatMap((statement) =>
    [...statement.matchAll(/\((\d+), '[^']*'\)/g)].map(([, id]) => Number(id)),
  );
  expect(found).toEqual(keys.map(([id]) => id));
  expect(selects("mid", ["seq"], ["sender", "mid"], [])).toEqual([]);
});

test("a list's values take the place of its question mark; an empty list equals nothing", () => {
  const sql = "SELECT id FROM user WHERE id IN (?) AND name = ?";
  expect(statement(sql, [[1, 2], "a?"])).toBe("SELECT id FROM user WHERE id IN (1, 2) AND name = 'a?'");
  expect(statement(sql, [[], "a"])).toBe("SELECT id FROM user WHERE id IN (NULL) AND name = 'a'");
});

test("keys are in the order of their first columns, numbers by their value", () => {
  const sorted = [
    [9, 2, "b"],
    [10, 1, "c"],
    [10, 2, "a"],
    [10, 2, "b"],
  ];
  expect([sorted[3]!, sorted[1]!, sorted[2]!, sorted[0]!].sort(compareKeys)).toEqual(sorted);
  expect(compareKeys(sorted[0]!, [...sorted[0]!])).toBe(0);
});
