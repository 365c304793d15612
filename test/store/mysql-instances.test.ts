// What instances on one database learn of each other (commits, devices, an end), and how long they wait for locks.
import { expect, test } from "bun:test";
import { StoreError } from "../../src/db/db.ts";
import { ChatError, directConv, Errno, groupConv } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import { transactions } from "../services.ts";
import { a, b, dead, forwarder, locksHeld, lost, mariadb, pairForEachTest, rowsOf, user } from "./mysql-pair.ts";
import { messages } from "./mysql-shared.ts";

pairForEachTest();

test("row locks of a writer that stops before its COMMIT hold the others up for no longer than the lock wait", async () => {
  const [x, y] = [await user(), await user()];
  const conv = directConv(x, y);
  await a.append(...messages([{ conv, sender: x, text: "first" }]));
  forwarder.watch((data) => {
    if (data.includes("INSERT INTO message")) forwarder.swallow();
    return "pass";
  });
  const stuck = a.append(...messages([{ conv, sender: x, text: "stuck" }])).catch((error) => error);
  await locksHeld();
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
  await until(() => b.otherBoots().includes(boot), "it is seen");
  await a.close();
  expect((await b.readCommits()).heads).toEqual([[conversations[0]!, conv, 1, 0]]);
  expect(await mariadb.admin("SELECT CONVERT(boot USING utf8mb4) AS boot FROM chat.instance")).toEqual([
    { boot: b.boot },
  ]);
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

test("a COMMIT that is still under way when its connection is lost is waited for", async () => {
  const [x, y] = [await user(), await user()];
  const conv = directConv(x, y);
  await a.append(...messages([{ conv, sender: x, text: "first" }]));
  // It holds up what leaves in one packet with the COMMIT.
  const holder = await mariadb.session("chat");
  await holder.run("LOCK TABLES commit_log READ");
  forwarder.watch((data) => (data.includes("INSERT INTO message") ? "cut" : "pass"));
  const sent = a.append(...messages([{ conv, sender: x, text: "under way" }]));
  await until(
    async () => (await transactions(mariadb, "trx_state = 'LOCK WAIT'")).length > 0,
    "it is asked how it ended",
  );
  holder.close();
  expect(await sent).toMatchObject({ seqs: [2], refused: [] });
  expect(await rowsOf("under way")).toEqual([2]);
  expect(lost).toBe(0);
});

test("where the answer to a registration's COMMIT is lost it is told as unknown, not as somebody else's name", async () => {
  // And not READ COMMITTED.
  forwarder.watch((data) => (/COMMIT$/.test(data.toString("latin1")) ? "cut" : "pass"));
  const outcome = await a.createUser("lost-answer", "hash").catch((error) => error);
  expect(outcome).toBeInstanceOf(StoreError);
  await until(async () => (await b.credentials("name", "lost-answer")) !== undefined, "it was done");
});
