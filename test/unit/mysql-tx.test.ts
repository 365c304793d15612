// Which statements of a transaction share a packet: writes wait for the next that has a result, or for COMMIT.
import { expect, test } from "bun:test";
import { LogIds } from "../../src/db/log-ids.ts";
import type { MysqlConnection, Result } from "../../src/db/mysql-connection.ts";
import { MysqlTx } from "../../src/db/mysql-tx.ts";

const [OPENING, UPDATE, SELECT] = ["SELECT 1 FROM lane", "UPDATE device SET boot = ''", "SELECT id FROM device"];
const REFUSAL = new Error("refused");

/** `refused`: begin of the statement that fails, and its packet with it. */
function begin(refused = "nothing", check: () => void = () => undefined) {
  const packets: string[][] = [];
  const query = async (statements: string[]) => {
    packets.push(statements);
    if (statements.some((sql) => sql.startsWith(refused))) throw REFUSAL;
    return statements.map((): Result => ({ columns: [], rows: [], changes: 1, id: 7 }));
  };
  const connection = { query, lost: null } as unknown as MysqlConnection;
  const options = { ids: new LogIds(), maxPacketBytes: 1_000_000, deadline: 10_000, careful: false };
  const tx = new MysqlTx({ connection, guard: { opening: OPENING, check, closing: null }, ...options });
  return { tx, packets, commit: () => tx.commit(() => packets.push(["(sending)"])) };
}

test("changes travel with COMMIT", async () => {
  const { tx, packets, commit } = begin();
  await tx.lock("device", ["id"], ["id"], [[1]]);
  await tx.run(UPDATE);
  await tx.insert("friend", ["user_id", "friend_id"], [[1, 2]]);
  await tx.raise("cursor", ["device", "conversation", "seq"], [[1, 2, 3]]);
  await commit();
  expect(packets).toEqual([
    ["START TRANSACTION", OPENING, "SELECT id FROM `device` WHERE `id` IN (1) ORDER BY `id` FOR UPDATE"],
    ["(sending)"],
    [UPDATE, expect.stringMatching(/^INSERT INTO `friend`/), expect.stringMatching(/^INSERT INTO `cursor`/), "COMMIT"],
  ]);
});

test("what has a result takes along the changes before it", async () => {
  const { tx, packets, commit } = begin();
  expect(await tx.create("user", ["name"], ["ann"])).toBe(7);
  await tx.run(UPDATE);
  await tx.all(SELECT);
  await commit();
  expect(packets).toEqual([
    ["START TRANSACTION", OPENING, "INSERT INTO `user` (`name`) VALUES ('ann')"],
    [UPDATE, SELECT],
    ["(sending)"],
    ["COMMIT"],
  ]);
});

test("whether the boot is fenced is known before COMMIT is sent", async () => {
  const first = begin();
  await first.tx.run(UPDATE);
  await first.commit();
  expect(first.packets).toEqual([["START TRANSACTION", OPENING, UPDATE], ["(sending)"], ["COMMIT"]]);
  const fenced = begin("nothing", () => {
    throw REFUSAL;
  });
  await fenced.tx.run(UPDATE);
  await expect(fenced.commit()).rejects.toBe(REFUSAL);
  expect(fenced.packets).toHaveLength(1);
});

test("a change that fails makes the commit fail, whichever packet it was in", async () => {
  const last = begin("UPDATE");
  await last.tx.lock("device", ["id"], ["id"], [[1]]);
  await last.tx.run(UPDATE);
  await expect(last.commit()).rejects.toBe(REFUSAL);
  // In a packet of its own, behind as many statements as one packet takes.
  const { tx, packets, commit } = begin("UPDATE");
  await tx.lock("device", ["id"], ["id"], [[1]]);
  const read = Promise.all(Array.from({ length: 200 }, () => tx.all(SELECT)));
  await tx.run(UPDATE);
  await read;
  await expect(commit()).rejects.toBe(REFUSAL);
  expect(packets.flat()).not.toContain("COMMIT");
  // Nor is anything sent after a failure.
  await expect(tx.all(SELECT)).rejects.toBe(REFUSAL);
  expect(packets).toHaveLength(3);
});

test("a transaction without changes is rolled back", async () => {
  const { tx, packets, commit } = begin();
  await tx.lock("device", ["id"], ["id"], [[1]]);
  await commit();
  expect(packets.at(-1)).toEqual(["ROLLBACK"]);
});
