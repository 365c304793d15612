// What each error says about its transaction: whether it is tried again, when, and whether it is certain to be undone.
import { expect, test } from "bun:test";
import { StoreError } from "../../src/db/db.ts";
import { ConnectionLost, DatabaseError } from "../../src/db/mysql-connection.ts";
import { isDataError, isTransient, isUndone, pauseMs, Stale, undo } from "../../src/db/mysql-errors.ts";
import type { MysqlTx } from "../../src/db/mysql-tx.ts";

const refusal = (errno: number, sqlState = "HY000") => new DatabaseError("", errno, sqlState, "refused");
const LOCK = ["again", "later", "undone"];
const DATA = ["undone", "data"];

test.each([
  ["a lost connection", new ConnectionLost("cut"), ["again"]],
  ["something cached that is no longer true", new Stale(""), ["again"]],
  ["a changed record", refusal(1020), LOCK],
  ["a lock wait", refusal(1205), LOCK],
  ["a deadlock", refusal(1213, "40001"), LOCK],
  ["a duplicate key", refusal(1062, "23000"), ["again", "undone"]],
  ["a packet that is too large", refusal(1153, "08S01"), DATA],
  ["a text that does not fit the character set", refusal(1366), DATA],
  ["a text that is too long", refusal(1406, "22001"), DATA],
  ["a COMMIT that failed", refusal(1180), []],
  ["any other error", new StoreError("other"), []],
])("%s", (_, error, expected) => {
  const waits = () => Array.from({ length: 20 }, () => pauseMs(error)).some((pause) => pause > 0);
  const found = { again: isTransient(error), later: waits(), undone: isUndone(error), data: isDataError(error) };
  expect(Object.entries(found).flatMap(([name, is]) => (is ? [name] : []))).toEqual(expected);
});

test("a connection whose transaction cannot be rolled back is given up", async () => {
  let given = 0;
  const connection = { destroy: () => given++ };
  const tx = (rollback: () => Promise<void>) => ({ rollback, options: { connection } }) as unknown as MysqlTx;
  await undo(tx(async () => undefined));
  expect(given).toBe(0);
  await undo(tx(() => Promise.reject(refusal(1205))));
  expect(given).toBe(1);
});
