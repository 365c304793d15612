// An instance stands still for longer than its lease (SIGSTOP): the others go on, its users go elsewhere, and when it wakes
// nothing that it still had to do is done. It begins anew.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { Errno, MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { startForwarder } from "../forwarder.ts";
import { type RunningServer, until } from "../harness.ts";
import { databaseOf } from "../services.ts";
import { login, register, type User } from "../wire.ts";
import { Crowd, readShared, startInstance, untilSettled } from "./cluster-crowd.ts";
import { compare, FLAWLESS } from "./crowd.ts";

/** Longer than a lease, and than instances look back for who has come and gone. */
const PAUSE_MS = 12_500;
/** A lease, the look that finds it expired, and a wait for a lock. */
const HELD_UP_MS = 6_000 + 1_000 + 3_000;

let cluster: RunningCluster;
let b: RunningServer;

beforeAll(async () => {
  cluster = await startCluster();
  b = await cluster.start();
  await untilSettled(cluster.mariadb);
}, 30_000);
afterAll(() => cluster.stop());

const sql = (text: string) => cluster.mariadb.admin(`USE ${databaseOf(cluster.url)}; ${text}`);
const startsOver = (server: RunningServer) =>
  until(() => server.log().includes("started over\n"), "the instance starts over", 5_000);

/** The position saved for the user's only device; 0 where there is none. */
async function savedFor({ id }: User): Promise<number> {
  const [row] = await sql(
    `SELECT c.seq FROM \`cursor\` c JOIN device d ON d.id = c.device WHERE d.user_id = ${id} ORDER BY c.seq DESC LIMIT 1`,
  );
  return (row?.seq as number | undefined) ?? 0;
}

test("an instance is paused under load", async () => {
  const a = await cluster.start();
  const crowd = await Crowd.at([a.port, b.port]);
  crowd.write();
  const [ann, bob, eve, max] = (await Promise.all(Array.from({ length: 4 }, () => register(b.port)))) as [
    User,
    User,
    User,
    User,
  ];
  const bobOnB = await login(b.port, bob);
  const annOnA = await login(a.port, ann);
  const eveOnA = await login(a.port, eve);
  const maxOnA = await login(a.port, max);
  await maxOnA.ask({ msgId: MsgId.addFriend, friendId: bob.id });
  await crowd.advance(100);

  // Something is delivered to Ann that A has not noted yet.
  let seq = 0;
  for (;;) {
    seq = (await bobOnB.ask({ msgId: MsgId.chat, toid: ann.id, msg: "hello" })).seq as number;
    await annOnA.next((each) => each.seq === seq);
    process.kill(a.pid, "SIGSTOP");
    if ((await savedFor(ann)) < seq) break;
    process.kill(a.pid, "SIGCONT");
  }
  const pausedAt = performance.now();
  const saved = await savedFor(ann);
  crowd.gates[0]!.target = b.port;
  eveOnA.send({ msgId: MsgId.chat, toid: bob.id, msg: "asleep", mid: "asleep" });
  bobOnB.close();
  const annOnB = await login(b.port, ann, { takeover: true, confirm: true });
  // A second for the old owner's answer; and two more where its pause has met a transaction that holds the device.
  expect(performance.now() - pausedAt).toBeLessThan(5_000);
  expect((await annOnB.push(MsgId.chat)).seq).toBe(saved + 1);
  await crowd.advance(300, HELD_UP_MS);
  await until(() => performance.now() - pausedAt > PAUSE_MS, "the pause is over", PAUSE_MS + 1_000);
  expect(crowd.slowestMs).toBeLessThan(HELD_UP_MS);

  process.kill(a.pid, "SIGCONT");
  await startsOver(a);
  for (const wire of [annOnA, eveOnA, maxOnA]) {
    await wire.whenEnded();
    const notices = wire.received.filter(({ msgId }) => msgId === MsgId.notice);
    expect(notices).toHaveLength(1);
    // Whether Ann's log-in elsewhere is learned of first, or that the instance was taken over.
    if (wire === annOnA && notices[0]!.errno === Errno.replaced) continue;
    expect(notices[0]!.errno).toBe(Errno.shuttingDown);
    expect(notices[0]!.retryAfterMs).toBeGreaterThan(0);
  }
  expect(eveOnA.received.filter(({ ack, errno }) => ack === MsgId.chat && errno === 0)).toEqual([]);
  // It serves again, and knows how things are now.
  const maxAgain = await login(a.port, max);
  expect(maxAgain.answer.friends).toMatchObject([{ id: bob.id, state: "offline" }]);
  const bobAgain = await login(b.port, bob);
  expect(await maxAgain.push(MsgId.presence)).toMatchObject({ id: bob.id, state: "online" });
  expect((await maxAgain.ask({ msgId: MsgId.chat, toid: bob.id, msg: "again" })).errno).toBe(0);
  expect((await bobAgain.push(MsgId.chat)).msg).toBe("again");
  // Positions are saved every second.
  const savesAt = performance.now() + 1_500;
  await until(() => performance.now() > savesAt, "A has saved what it may");
  expect(await savedFor(ann)).toBe(saved);
  expect(await sql("SELECT seq FROM message WHERE mid = 'asleep'")).toEqual([]);
  await annOnB.settle();
  expect(annOnB.ended).toBe(false);

  await crowd.rest();
  expect(crowd.faults).toEqual([]);
  const foreign = new Set([bob.id, eve.id, max.id]);
  const stored = (await readShared(cluster.mariadb, cluster.url)).filter(({ sender }) => !foreign.has(sender));
  expect(compare(stored, crowd.sent)).toEqual(FLAWLESS);
  await crowd.close();
  await a.stop();
}, 60_000);

test("an instance is paused between taking row locks and COMMIT", async () => {
  const forwarder = await startForwarder(cluster.mariadb.port);
  const c = await startInstance(cluster.url.replace(/:\d+\//, `:${forwarder.port}/`), [cluster.redis!.url]);
  const [ann, bob] = [await register(b.port), await register(b.port)];
  const annOnC = await login(c.port, ann);
  const bobOnB = await login(b.port, bob);
  expect((await annOnC.ask({ msgId: MsgId.chat, toid: bob.id, msg: "1" })).errno).toBe(0);
  let paused = false;
  forwarder.watch((data) => {
    if (!paused && data.includes("UPDATE lane SET batch") && !data.includes("COMMIT")) {
      process.kill(c.pid, "SIGSTOP");
      paused = true;
    }
    return "pass";
  });
  annOnC.send({ msgId: MsgId.chat, toid: bob.id, msg: "2", mid: "held" });
  await until(() => paused, "the instance is paused");

  const pausedAt = performance.now();
  const waits = async () => (await bobOnB.ask({ msgId: MsgId.chat, toid: ann.id, msg: "3", mid: "b" })).errno !== 0;
  while (await waits()) expect(performance.now() - pausedAt).toBeLessThan(HELD_UP_MS);
  expect(performance.now() - pausedAt).toBeLessThan(HELD_UP_MS);
  const gone = async () => (await sql("SELECT boot FROM instance")).length === 1;
  await until(gone, "the others have taken it over", HELD_UP_MS);
  const annOnB = await login(b.port, ann, { takeover: true });
  const resent = await annOnB.ask({ msgId: MsgId.chat, toid: bob.id, msg: "2", mid: "held" });
  expect([resent.errno, resent.seq]).toEqual([0, 3]);

  process.kill(c.pid, "SIGCONT");
  await startsOver(c);
  await annOnC.whenEnded();
  const bobOnC = await login(c.port, bob, { device: "other" });
  await annOnB.ask({ msgId: MsgId.chat, toid: bob.id, msg: "4" });
  await bobOnC.next(({ msg }) => msg === "4");
  const texts = await sql(`SELECT body FROM message WHERE sender IN (${ann.id}, ${bob.id}) ORDER BY seq`);
  expect(texts.map(({ body }) => body)).toEqual(["1", "3", "2", "4"]);
  await c.stop("SIGKILL");
  forwarder.stop();
}, 60_000);
