// Statements of many keys: short enough for any packet, and every key in one of them.
import { expect, test } from "bun:test";
import { selects } from "../../src/db/mysql-sql.ts";

test.each([
  ["short", "x"],
  ["long", "😀".repeat(64)],
])("%s keys are divided among statements that a small packet holds", (_, text) => {
  const keys = Array.from({ length: 2_000 }, (_, i): [number, string] => [i, `${text}${i}`]);
  const statements = selects("mid", ["seq"], ["sender", "mid"], keys);
  for (const statement of statements) expect(Buffer.byteLength(statement)).toBeLessThan(34_000);
  const found = statements.flatMap((statement) =>
    [...statement.matchAll(/\((\d+), '[^']*'\)/g)].map(([, id]) => Number(id)),
  );
  expect(found).toEqual(keys.map(([id]) => id));
  expect(selects("mid", ["seq"], ["sender", "mid"], [])).toEqual([]);
});
