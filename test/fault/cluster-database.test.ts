// The database of two instances is killed, hangs for a while, hangs for longer than the leases: senders are told in time,
// clients stay connected, nothing that was acknowledged is lost, and what is sent again is stored once.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Errno, MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { type RunningServer, until } from "../harness.ts";
import { login, register, type User, type Wire } from "../wire.ts";
import { Crowd, readShared } from "./cluster-crowd.ts";
import { compare, FLAWLESS } from "./crowd.ts";

const STORE_TIMEOUT_S = 2;
/** With what a loaded machine adds. */
const ANSWERED_MS = STORE_TIMEOUT_S * 1_000 + 1_500;

const LEASE_MS = 6_000;

let cluster: RunningCluster;
let a: RunningServer;
let b: RunningServer;
let crowd: Crowd;
let ann: User;
let bob: User;

beforeAll(async () => {
  cluster = await startCluster();
  const start = () => cluster.start(["--store-timeout", String(STORE_TIMEOUT_S), "--drain-timeout", "2"]);
  [a, b] = await Promise.all([start(), start()]);
  [ann, bob] = await Promise.all([register(a.port), register(b.port)]);
  crowd = await Crowd.at([a.port, b.port]);
}, 30_000);
afterAll(async () => {
  await crowd?.close();
  await cluster?.stop();
});

/** Stops the database; a signal takes its time. */
async function pause(): Promise<void> {
  cluster.mariadb.pause();
  const isStopped = () => / T /.test(readFileSync(`/proc/${cluster.mariadb.pid}/stat`, "utf8"));
  await until(isStopped, "the database hangs");
}

let mids = 0;

/** Sends until it is stored; how many times it was refused, always in time. */
async function sendThrough(wire: Wire, toid: number): Promise<number> {
  const mid = `mid ${++mids}`;
  for (let refused = 0; ; refused++) {
    const startedAt = performance.now();
    const { errno } = await wire.ask({ msgId: MsgId.chat, toid, msg: mid, mid });
    expect(performance.now() - startedAt).toBeLessThan(ANSWERED_MS);
    if (errno === 0) return refused;
    expect(errno).toBe(Errno.unavailable);
  }
}

/** What is stored is what was sent, and it has arrived. */
async function check(): Promise<void> {
  const before = crowd.acked;
  await crowd.advance(100, 30_000);
  await crowd.rest(30_000);
  expect(crowd.faults).toEqual([]);
  const stored = await readShared(cluster.mariadb, cluster.url);
  const others = new Set([ann.id, bob.id]);
  expect(
    compare(
      stored.filter(({ sender }) => !others.has(sender)),
      crowd.sent,
    ),
  ).toEqual(FLAWLESS);
  const own = stored.filter(({ sender }) => others.has(sender)).map(({ mid }) => mid);
  expect(own).toEqual([...new Set(own)]);
  expect(own.length).toBe(mids);
  expect(crowd.acked).toBeGreaterThan(before);
}

test("the database hangs for longer than --store-timeout: clients stay connected", async () => {
  const [onA, onB] = [await login(a.port, ann), await login(b.port, bob)];
  crowd.write();
  await crowd.advance(50);
  await pause();
  setTimeout(() => cluster.mariadb.resume(), 3_500);
  expect(await sendThrough(onA, bob.id)).toBeGreaterThan(0);
  expect((await onB.push(MsgId.chat)).msg).toBe(`mid ${mids}`);
  for (const wire of [onA, onB]) {
    await wire.settle();
    wire.close();
  }
  await check();
}, 60_000);

test("the database is killed and started again", async () => {
  const [onA, onB] = [await login(a.port, ann), await login(b.port, bob)];
  crowd.write();
  await crowd.advance(50);
  await cluster.mariadb.kill();
  const sent = sendThrough(onA, bob.id);
  // Gone for good while the database is away: nobody may be online for that afterwards.
  onB.close();
  await cluster.mariadb.restart();
  await sent;
  onA.close();
  await check();
  const free = async () => {
    const logins = await Promise.allSettled([login(b.port, ann), login(a.port, bob)]);
    // One that came in alone must not be what holds up the next attempt.
    for (const each of logins) if (each.status === "fulfilled") each.value.close();
    return logins.every(({ status }) => status === "fulfilled");
  };
  await until(free, "both can log in at the other instance");
}, 60_000);

test("the database hangs for longer than the leases: clients wait, and go on", async () => {
  const [onA, onB] = [await login(a.port, ann, { takeover: true }), await login(b.port, bob, { takeover: true })];
  crowd.write();
  await crowd.advance(50);
  await pause();
  const pausedAt = performance.now();
  const sent = sendThrough(onA, bob.id);
  await until(() => performance.now() - pausedAt > LEASE_MS, "the leases are too old", LEASE_MS + 1_000);
  // A new client is answered too.
  expect(await login(a.port, ann).catch((error: Error) => error.message)).toContain(`"errno":${Errno.unavailable}`);
  cluster.mariadb.resume();
  expect(await sent).toBeGreaterThan(0);
  await onB.next(({ msgId, mid }) => msgId === MsgId.chat && mid === `mid ${mids}`);
  for (const wire of [onA, onB]) {
    await wire.settle();
    expect(wire.received.filter(({ msgId }) => msgId === MsgId.notice)).toEqual([]);
    wire.close();
  }
  await check();
}, 60_000);

test("an instance drains in time also while the database hangs", async () => {
  const onA = await login(a.port, ann, { takeover: true });
  await pause();
  const startedAt = performance.now();
  expect(await a.stop("SIGTERM")).toBe(0);
  expect(performance.now() - startedAt).toBeLessThan(4_000);
  expect(onA.received.find(({ msgId }) => msgId === MsgId.notice)).toMatchObject({ errno: Errno.shuttingDown });
  cluster.mariadb.resume();
}, 60_000);
