// What `npm run soak -- --mutations` breaks on purpose is there to be broken: seen here at once, and not after hours.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MUTANTS } from "../soak/mutants.ts";

const ROOT = join(import.meta.dir, "../..");

test.each(MUTANTS.map(({ name, edits }) => [name, edits] as const))("%s fits the source", (_, edits) => {
  for (const { file, find, replace } of edits) {
    expect([file, readFileSync(join(ROOT, file), "utf8").split(find).length - 1]).toEqual([file, 1]);
    expect(replace).not.toBe(find);
  }
});
