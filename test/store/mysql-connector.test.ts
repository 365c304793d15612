// How connections come about: tried again with pauses, and none left behind that is of no use.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { ConnectionLost, DatabaseError, MysqlConnection } from "../../src/db/mysql-connection.ts";
import { Connector } from "../../src/db/mysql-pool.ts";
import { parseMysqlUrl } from "../../src/db/mysql-url.ts";
import { until } from "../harness.ts";
import { type RunningMariadb, startMariadb } from "../services.ts";

let mariadb: RunningMariadb;
beforeAll(async () => {
  mariadb = await startMariadb();
}, 30_000);
afterAll(() => mariadb.stop());

const open = async () =>
  Number((await mariadb.admin("SELECT COUNT(*) AS n FROM information_schema.processlist WHERE user = 'chat'"))[0]!.n);

test("one that cannot be set up is ended, and tried again with growing pauses, until there is no time left", async () => {
  const lines: string[] = [];
  const log = { warn: (line: string) => lines.push(line), info: (line: string) => lines.push(line) };
  const connector = new Connector(parseMysqlUrl(mariadb.url)!, log);
  const refusal = new DatabaseError("ER_OPTION_PREVENTS_STATEMENT", 3000, "HY000", "not now");
  let tries = 0;
  const refused = connector.open(performance.now() + 1_000, () => {
    tries++;
    return Promise.reject(refusal);
  });
  const error = await refused.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ConnectionLost);
  expect((error as ConnectionLost).cause).toBe(refusal);
  // At most half of 25, 50, 100 ms and so on between them.
  expect(tries).toBeGreaterThan(1);
  expect(tries).toBeLessThanOrEqual(7);
  await until(async () => (await open()) === 0, "none is left");
  const connection = await connector.open(performance.now() + 5_000, async () => undefined);
  expect(lines).toEqual([
    expect.stringContaining("gives no connection: not now"),
    expect.stringContaining("gives connections again"),
  ]);
  connection.close();
  await until(async () => (await open()) === 0, "none is left");
});

test("one that is lost, by the database or by its time limit, is told of once and holds no descriptor", async () => {
  const target = parseMysqlUrl(mariadb.url)!;
  for (const end of [
    (connection: MysqlConnection) => mariadb.admin(`KILL ${connection.id}`),
    (connection: MysqlConnection) => connection.query(["SELECT SLEEP(1)"], 50).catch(() => undefined),
    async (connection: MysqlConnection) => connection.destroy(),
  ]) {
    const connection = await MysqlConnection.open(target, 5_000);
    let losses = 0;
    connection.onLost = () => losses++;
    const under = connection.query(["SELECT SLEEP(1)"], 20_000).catch((error: unknown) => error);
    await end(connection);
    expect(await under).toBeInstanceOf(ConnectionLost);
    await until(() => connection.lost !== null, "it is lost");
    await expect(connection.query(["SELECT 1"], 1_000)).rejects.toBe(connection.lost!);
    await until(async () => (await open()) === 0, "the database has ended it");
    expect(losses).toBe(1);
  }
});

test("one that the database ends while nothing is asked is known to be lost", async () => {
  const connection = await MysqlConnection.open(parseMysqlUrl(mariadb.url)!, 5_000);
  await mariadb.admin(`KILL ${connection.id}`);
  await until(() => connection.lost !== null, "it is lost");
});

test("where one has fallen silent, those not heard since are given up: each of them could cost somebody the whole time limit", async () => {
  const log = { warn: () => undefined, info: () => undefined };
  const connector = new Connector(parseMysqlUrl(mariadb.url)!, log);
  const make = () => connector.open(performance.now() + 5_000, async () => undefined);
  const [silent, idle, heard] = [await make(), await make(), await make()];
  const under = silent.query(["SELECT SLEEP(1)"], 600).catch((error: unknown) => error);
  await heard.query(["SELECT 1"], 5_000);
  expect([connector.isGood(idle), connector.isGood(heard)]).toEqual([true, true]);
  expect(await under).toBeInstanceOf(ConnectionLost);
  expect([connector.isGood(silent), connector.isGood(idle), connector.isGood(heard)]).toEqual([false, false, true]);
  expect(idle.lost).not.toBeNull();
  heard.destroy();
});
