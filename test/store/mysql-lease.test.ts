// Leases: who has lost contact is taken over and changes nothing any more; who is back in time goes on.
import { expect, test } from "bun:test";
import { StoreError } from "../../src/db/db.ts";
import { MysqlConnection } from "../../src/db/mysql-connection.ts";
import { parseMysqlUrl } from "../../src/db/mysql-url.ts";
import { directConv } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import {
  a,
  b,
  dead,
  forwarder,
  locksHeld,
  lost,
  mariadb,
  pairForEachTest,
  rowsOf,
  settled,
  user,
} from "./mysql-pair.ts";
import { messages } from "./mysql-shared.ts";

pairForEachTest();

test("an instance without contact is taken over, and its batches and cursors change nothing", async () => {
  const [x, y] = [await user(), await user()];
  const conv = directConv(x, y);
  const { conversations } = await a.append(...messages([{ conv, sender: x, text: "before" }]));
  const device = await a.openDevice(y, "", a.boot);
  const { boot } = a;
  await settled();
  forwarder.swallow();
  const under = a.append(...messages([{ conv, sender: x, text: "under way" }])).catch((error) => error);
  expect(a.leaseValid()).toBe(true);
  await until(() => dead.includes(boot), "the other instance takes it over", 15_000);
  expect(a.leaseValid()).toBe(false);
  expect(await under).toBeInstanceOf(StoreError);
  forwarder.heal();
  const saved = a.saveCursors([[device.id, device.epoch, [[conversations[0]!, 1]]]]).catch((error) => error);
  const late = a.append(...messages([{ conv, sender: x, text: "too late" }])).catch((error) => error);
  expect(await late).toBeInstanceOf(StoreError);
  expect(await saved).toBeInstanceOf(StoreError);
  await until(() => lost === 1, "it learns of it");
  expect(await rowsOf("under way")).toEqual([]);
  expect(await rowsOf("too late")).toEqual([]);
  const opened = await b.openDevice(y, "", b.boot, false);
  expect(opened).toMatchObject({ id: device.id, epoch: 2, from: "" });
  expect((await b.missingOf(y, device.id)).behind).toEqual([[conversations[0]!, conv, 0, 1]]);
  expect(await b.append(...messages([{ conv, sender: x, text: "after" }]))).toMatchObject({ seqs: [2] });

  await a.restart();
  expect(a.boot).not.toBe(boot);
  expect(a.leaseValid()).toBe(true);
  expect(await a.append(...messages([{ conv, sender: x, text: "again" }]))).toMatchObject({ seqs: [3] });
  expect(lost).toBe(1);
}, 40_000);

test("where the database does not end them, the survivor does: with MySQL, which lacks idle_transaction_timeout", async () => {
  await settled();
  const setting = "idle_transaction_timeout = 2";
  forwarder.watch((data) => {
    const at = data.indexOf(setting);
    if (at >= 0) data[at + setting.length - 1] = "0".charCodeAt(0);
    return "pass";
  });
  forwarder.cut();
  const [x, y] = [await user(), await user()];
  const conv = directConv(x, y);
  const first = messages([{ conv, sender: x, text: "first of two", mid: "first" }]);
  await until(
    () =>
      a.append(...first).then(
        () => true,
        () => false,
      ),
    "it is connected anew",
  );
  forwarder.watch((data) => {
    if (data.includes("INSERT INTO message")) forwarder.swallow();
    return "pass";
  });
  const stuck = a.append(...messages([{ conv, sender: x, text: "never" }])).catch((error) => error);
  await locksHeld();
  const { boot } = a;
  const free = messages([{ conv, sender: y, text: "free again", mid: "free" }]);
  const startedAt = performance.now();
  await until(
    () =>
      b.append(...free).then(
        ({ seqs }) => seqs[0] === 2,
        () => false,
      ),
    "the locks are released",
    20_000,
  );
  expect(performance.now() - startedAt).toBeLessThan(14_000);
  await until(() => dead.includes(boot), "it is told");
  expect(await stuck).toBeInstanceOf(StoreError);
  expect(await rowsOf("never")).toEqual([]);
}, 60_000);

test("what is no batch changes nothing either, once its boot is fenced", async () => {
  const [x, y] = [await user(), await user()];
  const { conversations } = await b.append(...messages([{ conv: directConv(x, y), sender: x, text: "read me" }]));
  const { id, epoch } = await a.openDevice(y, "", a.boot);
  await mariadb.admin(`UPDATE chat.lane SET fenced = 1 WHERE boot = '${a.boot}'`);
  const saved = await a.saveCursors([[id, epoch, [[conversations[0]!, 1]]]]).catch((error) => error);
  expect(saved).toBeInstanceOf(StoreError);
  expect(lost).toBe(1);
  expect((await b.missingOf(y, id)).behind).toHaveLength(1);
  await expect(a.credentials("id", x)).rejects.toBeInstanceOf(StoreError);
  await a.restart();
  await a.saveCursors([[id, epoch, [[conversations[0]!, 1]]]]);
  expect((await b.missingOf(y, id)).behind).toEqual([]);
});

test("the connections of a boot that is taken over are ended", async () => {
  await Promise.all(Array.from({ length: 5 }, user));
  await a.credentials("id", 1);
  const { boot } = a;
  const links = (await mariadb.admin(`SELECT conn_id FROM chat.link WHERE boot = '${boot}'`)).map((row) => row.conn_id);
  expect(links.length).toBeGreaterThan(0);
  await settled();
  forwarder.swallow();
  await mariadb.admin(`UPDATE chat.instance SET expires = UTC_TIMESTAMP() - INTERVAL 1 SECOND WHERE boot = '${boot}'`);
  await until(() => dead.includes(boot), "it is taken over");
  // KILL returns before they are gone.
  await until(async () => {
    const open = (await mariadb.admin("SELECT id FROM information_schema.processlist")).map(({ id }) => id);
    return !links.some((id) => open.includes(id));
  }, "they are ended");
}, 30_000);

test("connections that are gone are not kept, and hold up no takeover", async () => {
  const { boot } = a;
  const links = async (of: string) =>
    (await mariadb.admin(`SELECT conn_id, started FROM chat.link WHERE boot = '${of}'`)).map(({ conn_id }) => conn_id);
  for (let i = 0; i < 10; i++) {
    await a.credentials("id", 1);
    for (const id of await links(boot)) await mariadb.admin(`KILL ${id}`).catch(() => undefined);
  }
  await until(async () => (await links(boot)).length <= 8, "those that are open are left", 20_000);
  await settled();
  await mariadb.admin(
    `INSERT INTO chat.link SELECT 1000000 + seq, '${boot}', (SELECT MAX(started) FROM chat.link), (SELECT MAX(seen_by) FROM chat.link) FROM chat.seq_1_to_100000`,
  );
  forwarder.cut();
  forwarder.swallow();
  await until(() => dead.includes(boot), "it is taken over", 15_000);
  expect(await links(boot)).toEqual([]);
}, 60_000);

test("a process that has ended is found dead before its lease expires, one that lives is not", async () => {
  await a.credentials("id", 1);
  await settled();
  expect(await b.fenceIfDead(a.boot)).toBe(false);
  forwarder.cut();
  forwarder.swallow();
  const startedAt = performance.now();
  expect(await b.fenceIfDead(a.boot)).toBe(true);
  expect(performance.now() - startedAt).toBeLessThan(1_500);
  expect(dead).toEqual([a.boot]);
}, 20_000);

test("after a restart of the database, somebody else's connection of an old number is no sign of life", async () => {
  await a.credentials("id", 1);
  await settled();
  const other = await MysqlConnection.open(parseMysqlUrl(mariadb.url)!, 5_000);
  await mariadb.admin(`INSERT INTO chat.link (conn_id, boot, started) VALUES (${other.id}, '${a.boot}', 1000)`);
  forwarder.cut();
  forwarder.swallow();
  expect(await b.fenceIfDead(a.boot)).toBe(true);
  expect(dead).toEqual([a.boot]);
  // Nor is it ended for being taken over.
  expect((await other.query(["SELECT 1"], 1_000))[0]!.rows).toEqual([[1]]);
  other.destroy();
}, 20_000);

test("while the database is away calls are refused in time, and then the same boot goes on", async () => {
  const [x, y] = [await user(), await user()];
  const conv = directConv(x, y);
  await b.append(...messages([{ conv, sender: x, text: "before" }]));
  const { boot } = b;
  await mariadb.kill();
  const startedAt = performance.now();
  const refused = await Promise.allSettled([
    b.append(...messages([{ conv, sender: x, text: "away", mid: "m" }])),
    b.credentials("id", x),
    b.joinGroup([x, 0, 1], 1),
    a.saveCursors([[1, 1, [[1, 1]]]]),
  ]);
  expect(performance.now() - startedAt).toBeLessThan(7_000);
  expect(refused.map((each) => each.status === "rejected" && each.reason instanceof StoreError)).toEqual(
    Array(4).fill(true),
  );
  await mariadb.restart();
  const again = messages([{ conv, sender: x, text: "away", mid: "m" }]);
  await until(
    () =>
      b.append(...again).then(
        ({ seqs }) => seqs[0] === 2,
        () => false,
      ),
    "the store answers again",
  );
  expect(await rowsOf("away")).toEqual([2]);
  await until(() => a.leaseValid() && b.leaseValid(), "the leases are confirmed again");
  expect(await b.fenceIfDead(a.boot)).toBe(false);
  expect([b.boot, lost]).toEqual([boot, 0]);
}, 40_000);

test("where the database's clock is set forward all leases seem to have expired: who lives renews its own", async () => {
  await settled();
  const { boot } = a;
  const expires = async () =>
    String((await mariadb.admin(`SELECT expires FROM chat.instance WHERE boot = '${boot}'`))[0]?.expires);
  const renewed = async () => {
    const before = await expires();
    await until(async () => (await expires()) !== before, "the lease is renewed");
  };
  for (let i = 0; i < 3; i++) {
    await renewed();
    // Longer than to the next look of the other one, and shorter than to the next renewal.
    await mariadb.admin(
      `UPDATE chat.instance SET expires = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE boot = '${boot}'`,
    );
    await renewed();
  }
  expect(dead).toEqual([]);
  expect(a.leaseValid()).toBe(true);
}, 40_000);
