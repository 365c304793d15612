// Leases: who has lost contact is taken over and changes nothing any more; what each instance learns of the others.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { StoreError } from "../../src/db/db.ts";
import { Connection } from "../../src/db/mysql-connection.ts";
import { readTarget } from "../../src/db/mysql-start.ts";
import { ChatError, directConv, Errno, groupConv } from "../../src/protocol.ts";
import { type Forwarder, startForwarder } from "../forwarder.ts";
import { until } from "../harness.ts";
import { type RunningMariadb, startMariadb } from "../services.ts";
import { messages, openShared, type SharedStore, through } from "./mysql-shared.ts";

let mariadb: RunningMariadb;
let forwarder: Forwarder;
/** `a` reaches the database through the forwarder. */
let a: SharedStore;
let b: SharedStore;
let dead: string[];
let lost: number;
let names = 0;

beforeAll(async () => {
  mariadb = await startMariadb();
  forwarder = await startForwarder(mariadb.port);
}, 30_000);
afterAll(async () => {
  forwarder.stop();
  await mariadb.stop();
});
beforeEach(async () => {
  [a, b] = await Promise.all([
    openShared(through(mariadb.url, forwarder.port), { storeTimeoutMs: 2_000 }),
    openShared(mariadb.url),
  ]);
  dead = [];
  lost = 0;
  b.onDead((boots) => dead.push(...boots));
  a.onLost(() => lost++);
});
afterEach(async () => {
  forwarder.watch(() => "pass");
  forwarder.heal();
  await Promise.all([a.close(), b.close()]);
});

const user = () => b.createUser(`lease-${++names}`, "hash");
const rowsOf = async (text: string) =>
  (await mariadb.admin(`SELECT seq FROM chat.message WHERE body = '${text}'`)).map(({ seq }) => seq);
const settled = () =>
  until(
    async () => Number((await mariadb.admin("SHOW STATUS LIKE 'Uptime'"))[0]!.Value) >= 8,
    "the database runs long enough",
    15_000,
  );

const transactions = async () =>
  (await mariadb.admin("SELECT 1 FROM information_schema.innodb_trx WHERE trx_rows_modified > 0")).length;

test("row locks of a writer that stops before its COMMIT hold the others up for no longer than the lock wait", async () => {
  const [x, y] = [await user(), await user()];
  const conv = directConv(x, y);
  await a.append(...messages([{ conv, sender: x, text: "first" }]));
  forwarder.watch((data) => {
    if (data.includes("INSERT INTO message")) forwarder.swallow();
    return "pass";
  });
  const stuck = a.append(...messages([{ conv, sender: x, text: "stuck" }])).catch((error) => error);
  await until(() => transactions().then((count) => count > 0), "the locks are held");
  const startedAt = performance.now();
  expect(await b.append(...messages([{ conv, sender: y, text: "free" }]))).toMatchObject({ seqs: [2] });
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  expect(await stuck).toBeInstanceOf(StoreError);
  expect(await rowsOf("stuck")).toEqual([]);
}, 20_000);

test("an instance that shuts down is told of, and its last commits are read", async () => {
  const [x, y] = [await user(), await user()];
  const conv = directConv(x, y);
  await b.readCommits();
  const { conversations } = await a.append(...messages([{ conv, sender: x, text: "last" }]));
  const { boot } = a;
  expect((await b.instances()).map((each) => each.boot).sort()).toEqual([boot, b.boot].sort());
  await a.close();
  expect((await b.readCommits()).heads).toEqual([[conversations[0]!, conv, 1, 0]]);
  expect((await b.instances()).map((each) => each.boot)).toEqual([b.boot]);
  await until(() => dead.includes(boot), "it is told");
  await expect(a.credentials("id", x)).rejects.toBeInstanceOf(StoreError);
});

test("a device online at another instance is refused, taken over, or free when that has let it go", async () => {
  const x = await user();
  const device = await a.openDevice(x, "phone", a.boot, false);
  expect(device).toMatchObject({ epoch: 1, from: "" });
  const refused = await b.openDevice(x, "phone", b.boot, false).catch((error) => error);
  expect(refused).toBeInstanceOf(ChatError);
  expect(refused.errno).toBe(Errno.alreadyOnline);
  expect(await b.devicesOf([x], b.boot)).toEqual([{ userId: x, device: "phone", epoch: 1, boot: a.boot }]);
  expect(await a.replacedAmong([[device.id, 1]])).toEqual([]);
  expect(await b.openDevice(x, "phone", b.boot, true)).toMatchObject({ epoch: 2, from: a.boot });
  expect(await a.replacedAmong([[device.id, 1]])).toEqual([device.id]);
  await a.closeDevices([[device.id, 1]]);
  expect(await a.devicesOf([x], a.boot)).toMatchObject([{ boot: b.boot, epoch: 2 }]);
  await b.closeDevices([[device.id, 2]]);
  expect(await a.devicesOf([x], a.boot)).toEqual([]);
  expect(await a.openDevice(x, "phone", a.boot, false)).toMatchObject({ epoch: 3, from: "" });
});

test("what the others commit is read once, each lane without holes; what was deleted unread means all", async () => {
  const [x, y] = [await user(), await user()];
  const group = await a.createGroup(x, "readers", "");
  await b.readCommits();
  const { conversations } = await a.append(
    ...messages([
      { conv: directConv(x, y), sender: x, text: "1" },
      { conv: groupConv(group), sender: x, text: "1" },
    ]),
  );
  await a.append(...messages([{ conv: directConv(x, y), sender: x, text: "2" }]));
  await a.joinGroup([y, 0, group], 1);
  const { heads, all } = await b.readCommits();
  expect(all).toBe(false);
  expect(heads.sort((p, q) => p[0] - q[0])).toEqual(
    [
      [conversations[0]!, directConv(x, y), 2, 0] as [number, string, number, number],
      [conversations[1]!, groupConv(group), 2, 1] as [number, string, number, number],
    ].sort((p, q) => p[0] - q[0]),
  );
  expect(await b.readCommits()).toEqual({ heads: [], all: false });
  expect((await a.readCommits()).heads).toEqual([]);
  expect(await b.headsOf([conversations[0]!])).toEqual([[conversations[0]!, 2]]);
  await a.append(...messages([{ conv: directConv(x, y), sender: x, text: "3" }]));
  await mariadb.admin(`DELETE FROM chat.commit_log WHERE boot = '${a.boot}'`);
  expect((await b.readCommits()).all).toBe(true);
  expect((await b.readCommits()).all).toBe(false);
});

test("a conversation that is not there any more, as after a fail-over that lost commits, is made again", async () => {
  const [x, y] = [await user(), await user()];
  const conv = directConv(x, y);
  const { conversations } = await a.append(...messages([{ conv, sender: x, text: "lost with its row" }]));
  await mariadb.admin(`DELETE FROM chat.message WHERE conversation = ${conversations[0]}`);
  await mariadb.admin(`DELETE FROM chat.conversation WHERE id = ${conversations[0]}`);
  const again = await a.append(...messages([{ conv, sender: x, text: "kept" }]));
  expect(again).toMatchObject({ seqs: [1], refused: [] });
  expect(again.conversations[0]).toBeGreaterThan(conversations[0]!);
});

test("a commit whose caller was told that it is unknown is stored once, and read by its own instance", async () => {
  const [x, y] = [await user(), await user()];
  const conv = directConv(x, y);
  await a.append(...messages([{ conv, sender: x, text: "first" }]));
  forwarder.watch((data) => {
    if (!data.includes("INSERT INTO message")) return "pass";
    // The COMMIT arrives, but from then on nothing else does.
    setTimeout(() => forwarder.swallow(), 0);
    return "cut";
  });
  const unknown = await a.append(...messages([{ conv, sender: x, text: "unknown", mid: "u" }])).catch((error) => error);
  expect(unknown).toBeInstanceOf(StoreError);
  forwarder.watch(() => "pass");
  forwarder.heal();
  await until(
    () =>
      a.append(...messages([{ conv, sender: x, text: "unknown", mid: "u" }])).then(
        (r) => r.seqs[0] === 2,
        () => false,
      ),
    "the resend is answered with the first one's seq",
  );
  expect(await rowsOf("unknown")).toEqual([2]);
  expect((await a.readCommits()).heads.map(([, name, seq]) => [name, seq])).toEqual([[conv, 2]]);
}, 20_000);

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
  let state = "under way";
  const stuck = a
    .append(...messages([{ conv, sender: x, text: "never" }]))
    .catch((error) => error)
    .finally(() => {
      state = `over, the lease being ${a.leaseValid() ? "" : "in"}valid`;
    });
  await until(() => transactions().then((count) => count > 0), "the locks are held").catch((error) => {
    throw new Error(`${error.message}; the append is ${state}`);
  });
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
  const open = (await mariadb.admin("SELECT id FROM information_schema.processlist")).map(({ id }) => id);
  expect(links.filter((id) => open.includes(id))).toEqual([]);
}, 30_000);

test("a process that has ended is found dead before its lease expires, one that lives is not", async () => {
  await a.credentials("id", 1);
  await settled();
  expect(await b.checkDead(a.boot)).toBe(false);
  forwarder.cut();
  forwarder.swallow();
  const startedAt = performance.now();
  expect(await b.checkDead(a.boot)).toBe(true);
  expect(performance.now() - startedAt).toBeLessThan(1_500);
  expect(dead).toEqual([a.boot]);
}, 20_000);

test("after a restart of the database, somebody else's connection of an old number is no sign of life", async () => {
  await a.credentials("id", 1);
  await settled();
  const other = await Connection.open(readTarget(mariadb.url), 5_000);
  await mariadb.admin(`INSERT INTO chat.link (conn_id, boot, started) VALUES (${other.id}, '${a.boot}', 1000)`);
  forwarder.cut();
  forwarder.swallow();
  expect(await b.checkDead(a.boot)).toBe(true);
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
  expect(await b.checkDead(a.boot)).toBe(false);
  expect([b.boot, lost]).toEqual([boot, 0]);
}, 40_000);
