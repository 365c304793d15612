// Whether the database's files are in place is looked up now and then; what is amiss is told once a second, and until it is
// mended nothing is written.
import { expect, spyOn, test } from "bun:test";
import { existsSync, readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { DatabaseFiles } from "../../src/db/sqlite-files.ts";
import { openDatabase } from "../../src/db/sqlite-migrate.ts";
import { temporaryFolder } from "../harness.ts";

test("a file that is moved away and comes back", () => {
  const file = join(temporaryFolder(), "chat.db");
  const elsewhere = join(temporaryFolder(), "chat.db");
  const db = openDatabase(file);
  const write = () => db.run("INSERT INTO setting (name, value) VALUES (?, '')", [crypto.randomUUID()]);
  write();
  expect(existsSync(`${file}-wal`)).toBe(true);
  let now = 1_000;
  const clock = spyOn(performance, "now").mockImplementation(() => now);
  try {
    const told: string[] = [];
    const files = new DatabaseFiles(db, file, (trouble) => told.push(trouble));
    const after = (ms: number) => {
      now += ms;
      return [files.areInPlace(), told.length];
    };
    expect(after(0)).toEqual([true, 0]);
    renameSync(file, elsewhere);
    expect(after(9)).toEqual([true, 0]);
    expect(after(1)).toEqual([false, 1]);
    expect(told[0]).toStartWith(`${file} is no longer the file that was opened: nothing more is stored; put it back`);
    expect(write).toThrow("readonly");
    expect(after(990)).toEqual([false, 1]);
    expect(after(10)).toEqual([false, 2]);
    renameSync(elsewhere, file);
    expect(after(10)).toEqual([true, 2]);
    write();
    const descriptors = () => readdirSync("/proc/self/fd").length;
    const before = descriptors();
    for (let looks = 0; looks < 100; looks++) after(10);
    expect(descriptors()).toBe(before);
  } finally {
    clock.mockRestore();
  }
  db.close();
});
