// A device that moves between instances under load, log-ins that break off, log-ins at two instances at once: one owner, no
// message twice, and nobody online who is not there.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { Errno, MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { type RunningServer, until } from "../harness.ts";
import { databaseOf } from "../services.ts";
import { login, register, type User, Wire } from "../wire.ts";

let cluster: RunningCluster;
let a: RunningServer;
let b: RunningServer;

beforeAll(async () => {
  cluster = await startCluster();
  [a, b] = await Promise.all([cluster.start(), cluster.start()]);
}, 30_000);
afterAll(() => cluster.stop());

const loginMessage = ({ id, password }: User) => ({ msgId: MsgId.login, id, password, takeover: true, reqId: "login" });

test("a device that does not confirm moves between the instances and gets everything once", async () => {
  const [ann, bob] = [await register(a.port), await register(b.port)];
  const sender = await login(a.port, bob);
  let sending = true;
  let sent = 0;
  const stream = (async () => {
    while (sending) {
      expect((await sender.ask({ msgId: MsgId.chat, toid: ann.id, msg: `${sent}` })).errno).toBe(0);
      sent++;
    }
  })();
  const got: number[] = [];
  const keep = (wire: Wire) => {
    for (const { msgId, ack, seq } of wire.rest())
      if (msgId === MsgId.chat && ack === undefined) got.push(seq as number);
  };
  let current = await login(a.port, ann);
  for (let i = 0; i < 16; i++) {
    const goal = sent + 5 + Math.random() * 20;
    await until(() => sent >= goal, "some messages more");
    const before = current;
    const next = login(i % 2 === 0 ? b.port : a.port, ann, { takeover: true });
    await before.whenEnded(5_000);
    keep(before);
    current = await next;
  }
  sending = false;
  await stream;
  await until(() => {
    keep(current);
    return got.at(-1) === sent;
  }, "the last message");
  expect(got).toEqual(Array.from({ length: sent }, (_, i) => i + 1));
}, 30_000);

test("log-ins that break off leave nobody online", async () => {
  const users = await Promise.all(Array.from({ length: 40 }, () => register(a.port)));
  await Promise.all(
    users.map(async (user, i) => {
      const wire = await Wire.connect(i % 2 === 0 ? a.port : b.port);
      wire.send(loginMessage(user));
      await Bun.sleep(Math.random() * 60);
      wire.close();
    }),
  );
  const ids = users.map(({ id }) => id);
  const held = () =>
    cluster.mariadb.admin(
      `SELECT user_id FROM ${databaseOf(cluster.url)}.device WHERE boot <> '' AND user_id IN (${ids})`,
    );
  await until(async () => (await held()).length === 0, "the store holds none of them");
  // Not merely none yet.
  for (const [i, user] of users.entries()) (await login(i % 2 === 0 ? b.port : a.port, user)).close();
}, 30_000);

test("of log-ins at both instances at once the one that is later stays, and only that", async () => {
  const ann = await register(a.port);
  for (let i = 0; i < 10; i++) {
    const wires = await Promise.all([a, b].map(({ port }) => Wire.connect(port)));
    for (const wire of wires) wire.send(loginMessage(ann));
    await until(() => wires.filter((wire) => !wire.ended).length === 1, "one of the two is left");
    const left = wires.find((wire) => !wire.ended)!;
    await left.next((each) => each.reqId === "login" && each.errno === 0, "its log-in");
    await left.settle();
    const lost = wires.find((wire) => wire.ended)!.received;
    expect(lost.map(({ errno }) => errno).filter((errno) => errno !== 0)).toContain(Errno.replaced);
    left.close();
  }
}, 60_000);

test("of log-ins that wait for the database together the last one stays", async () => {
  const users = await Promise.all(Array.from({ length: 8 }, () => register(a.port)));
  cluster.mariadb.pause();
  const last: Wire[] = [];
  for (const user of users)
    for (let i = 0; i < 4; i++) {
      const wire = await Wire.connect(a.port);
      // One after the other: what was sent before has been read.
      await wire.settle();
      wire.send(loginMessage(user));
      if (i === 3) last.push(wire);
    }
  cluster.mariadb.resume();
  for (const wire of last) expect(await wire.next((each) => each.reqId === "login")).toMatchObject({ errno: 0 });
  // Owners are compared every 2 s.
  const comparedAt = performance.now() + 2_500;
  await until(() => performance.now() > comparedAt, "owners are compared");
  for (const wire of last) {
    await wire.settle();
    expect(wire.rest().map(({ errno }) => errno)).not.toContain(Errno.replaced);
    wire.close();
  }
}, 30_000);

/** A log-in at `a` that waits for its device's row, until `holder` is closed. */
async function logInAtLock(user: User) {
  const holder = await cluster.mariadb.session(databaseOf(cluster.url));
  await holder.run("START TRANSACTION");
  await holder.run(`SELECT id FROM device WHERE user_id = ${user.id} FOR UPDATE`);
  const waiting = await Wire.connect(a.port);
  waiting.send(loginMessage(user));
  const isWaiting = async () =>
    (await cluster.mariadb.admin("SHOW STATUS LIKE 'Innodb_row_lock_current_waits'"))[0]!.Value !== "0";
  await until(isWaiting, "the log-in waits for the lock");
  return { holder, waiting };
}

const goings: [how: string, go: (wire: Wire) => void][] = [
  ["has gone", (wire) => wire.close()],
  // A socket that is closed sends FIN: there is no telling whether its owner still reads.
  ["has hung up", (wire) => wire.halfClose()],
];

test.each(goings)(
  "a log-in that the database is slow with is not committed when its client %s",
  async (_, go) => {
    const ann = await register(a.port);
    (await login(a.port, ann)).close();
    const database = databaseOf(cluster.url);
    const row = async () =>
      (await cluster.mariadb.admin(`SELECT epoch, boot FROM ${database}.device WHERE user_id = ${ann.id}`))[0]!;
    await until(async () => String((await row()).boot) === "", "she is offline");
    const before = (await row()).epoch as number;
    const { holder, waiting: left } = await logInAtLock(ann);
    go(left);
    const goneAt = performance.now();
    const stays = login(b.port, ann, { takeover: true });
    await until(() => performance.now() - goneAt > 1_500, "it has been gone for a while");
    holder.close();
    const wire = await stays;
    expect((await row()).epoch).toBe(before + 1);
    await wire.settle();
    expect(wire.ended).toBe(false);
    wire.close();
    left.close();
  },
  30_000,
);

// With 19 it would be sent again, and take the device back from who came later.
test("a log-in that is overtaken while it waits for the database is answered 21", async () => {
  const [ann, bob] = [await register(a.port), await register(a.port)];
  for (const user of [ann, bob]) (await login(a.port, user)).close();
  const { holder, waiting: overtaken } = await logInAtLock(ann);
  const later = await Wire.connect(a.port);
  later.send(loginMessage(ann));
  // Who asks after it and has been let in shows that it has got as far as the lock.
  (await login(a.port, bob, { takeover: true })).close();
  holder.close();
  expect((await overtaken.next((each) => each.reqId === "login")).errno).toBe(Errno.replaced);
  expect((await later.next((each) => each.reqId === "login")).errno).toBe(0);
  later.close();
  overtaken.close();
}, 30_000);
