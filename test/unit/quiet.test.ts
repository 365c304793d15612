import { expect, test } from "bun:test";
import { Quiet } from "../../src/quiet.ts";

/** What each look says, given the milliseconds of processor time used before it. */
function looks(spent: number[]): string {
  const quiet = new Quiet();
  let usedMs = 0;
  let said = "";
  for (const ms of spent) {
    usedMs += ms;
    said += quiet.look(usedMs) ? "c" : "-";
  }
  return said;
}

test("memory is collected three times after a busy time, and no more until the next", () => {
  expect(looks([400, 10, 10, 10, 10, 10, 10, 10, 10, 60, 0, 0])).toBe("-c-c-c----c-");
});

test("while the process is busy nothing is collected", () => {
  expect(looks([400, 50, 900, 1_000, 50])).toBe("-----");
  expect(looks([400, 10, 400, 400, 400, 10])).toBe("-c---c");
});

test("the time that a collection takes itself does not count as busy", () => {
  expect(looks([400, 10, 300, 10, 300, 10, 300, 10, 10, 10])).toBe("-c-c-c----");
});
