// Redis goes away in every way there is: messages between the instances still arrive within 5 s, at once again afterwards,
// and who is online is known all along. In the end Redis holds what it held in the beginning.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Redis } from "ioredis";
import { MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { type RunningServer, until } from "../harness.ts";
import { Tunnel } from "../integration/stand-ins.ts";
import { login, register, type User, type Wire } from "../wire.ts";
import { startInstance } from "./cluster-crowd.ts";

/** Without Redis a message waits for the next poll, every 2 s. */
const LIVE_MS = 500;

let cluster: RunningCluster;
let tunnel: Tunnel;
let a: RunningServer;
let b: RunningServer;
let keysAtStart: string[] = [];

const admin = async <T>(ask: (redis: Redis) => Promise<T>): Promise<T> => {
  // Its state is no matter: one that is busy is told to stop.
  const redis = new Redis(cluster.redis!.url, { enableReadyCheck: false });
  try {
    return await ask(redis);
  } finally {
    redis.disconnect();
  }
};
const keys = () => admin(async (redis) => (await redis.keys("*")).sort());

beforeAll(async () => {
  cluster = await startCluster();
  tunnel = await Tunnel.to(cluster.redis!.port);
  const start = () => startInstance(cluster.url, [`redis://127.0.0.1:${tunnel.port}`]);
  [a, b] = await Promise.all([start(), start()]);
  await until(async () => (await keys()).length > 0, "the instances are known to Redis");
  keysAtStart = await keys();
}, 30_000);
afterAll(async () => {
  await Promise.all([a?.stop("SIGKILL"), b?.stop("SIGKILL")]);
  tunnel?.stop();
  await cluster?.stop();
});

let texts = 0;

/** Sends a message; the milliseconds from its acknowledgement to its arrival. */
async function send(from: Wire, to: Wire, toid: number): Promise<number> {
  const msg = `text ${++texts}`;
  expect((await from.ask({ msgId: MsgId.chat, toid, msg })).errno).toBe(0);
  const ackedAt = performance.now();
  await to.next((each) => each.msg === msg && each.ack === undefined, msg, 6_000);
  return performance.now() - ackedAt;
}

/** Waits until messages arrive at once. */
const untilLive = (from: Wire, to: Wire, toid: number): Promise<void> =>
  until(
    async () => {
      for (let i = 0; i < 3; i++) if ((await send(from, to, toid)) > LIVE_MS) return false;
      return true;
    },
    "messages arrive at once",
    15_000,
  );

interface Fault {
  begin(): unknown;
  /** How long it lasts. */
  ms: number;
  end(): unknown;
}

let busy: Promise<unknown> = Promise.resolve();
/** Nothing in it is of interest; no buffer that is small holds it. */
const NOISE = `${" ".repeat(256 * 1024)}{"from":"nobody","envelopes":[]}`;

const faults: Record<string, Fault> = {
  "is emptied": { begin: () => admin((redis) => redis.flushall()), ms: 0, end: () => undefined },
  // As with a maxmemory-policy that evicts: what says that it was emptied stays.
  "loses the users' entries alone": {
    begin: () => admin(async (redis) => redis.del(...(await redis.keys("*:user:*")))),
    ms: 0,
    end: () => undefined,
  },
  "drops the subscriptions": {
    begin: () => admin((redis) => redis.call("CLIENT", "KILL", "TYPE", "pubsub")),
    ms: 0,
    end: () => undefined,
  },
  "is out of memory": {
    begin: () => admin((redis) => redis.config("SET", "maxmemory", "1")),
    ms: 3_000,
    end: () => admin((redis) => redis.config("SET", "maxmemory", "0")),
  },
  "is busy with somebody's script": {
    begin: async () => {
      await admin((redis) => redis.config("SET", "busy-reply-threshold", "500"));
      busy = admin((redis) => redis.eval("while true do end", 0)).catch(() => undefined);
    },
    ms: 3_000,
    end: async () => {
      await admin((redis) => redis.call("SCRIPT", "KILL"));
      await busy;
    },
  },
  "cuts off subscribers that do not take everything at once": {
    begin: async () => {
      await admin((redis) => redis.config("SET", "client-output-buffer-limit", "pubsub 1 1 1"));
      await admin(async (redis) => {
        for (const channel of (await redis.pubsub("CHANNELS")) as string[]) await redis.publish(channel, NOISE);
      });
    },
    ms: 1_000,
    end: () => admin((redis) => redis.config("SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")),
  },
  "hangs for 5 s": { begin: () => cluster.redis!.pause(), ms: 5_000, end: () => cluster.redis!.resume() },
  "dies and comes back empty": { begin: () => cluster.redis!.kill(), ms: 3_000, end: () => cluster.redis!.restart() },
  "is behind connections that lead nowhere": {
    begin: () => {
      tunnel.frozen = true;
    },
    // New connections get through, those that stand never do again.
    ms: 1_500,
    end: () => {
      tunnel.frozen = false;
    },
  },
};

for (const [name, { begin, ms, end }] of Object.entries(faults))
  test(`Redis ${name}`, async () => {
    const users = (await Promise.all(Array.from({ length: 4 }, () => register(a.port)))) as [User, User, User, User];
    const [ann, bob, guest, leaver] = users;
    const onA = await login(a.port, ann);
    for (const { id } of [bob, guest, leaver]) await onA.ask({ msgId: MsgId.addFriend, friendId: id });
    const onB = await login(b.port, bob);
    const leaving = await login(b.port, leaver);
    await untilLive(onA, onB, bob.id);
    const last = (id: number) => onA.received.findLast((each) => each.msgId === MsgId.presence && each.id === id);
    await until(() => last(leaver.id)?.state === "online", "who leaves has come");

    await begin();
    const beganAt = performance.now();
    leaving.close();
    const guestOnB = await login(b.port, guest);
    const guestOnA = await login(a.port, guest, { device: "second" });
    guestOnA.close();
    do {
      expect(await send(onA, onB, bob.id)).toBeLessThan(5_000);
      expect(await send(onB, onA, ann.id)).toBeLessThan(5_000);
    } while (performance.now() - beganAt < ms);
    await end();

    await untilLive(onA, onB, bob.id);
    await untilLive(onB, onA, ann.id);
    // Also for who came meanwhile.
    await untilLive(onA, guestOnB, guest.id);
    await until(() => last(guest.id)?.state === "online" && last(leaver.id)?.state === "offline", "presence is right");
    const { friends } = await onA.ask({ msgId: MsgId.friends });
    const states = new Map((friends as { id: number; state: string }[]).map(({ id, state }) => [id, state]));
    expect([bob, guest, leaver].map(({ id }) => states.get(id))).toEqual(["online", "online", "offline"]);
    for (const wire of [onA, onB, guestOnB]) wire.close();
    await until(async () => Bun.deepEquals(await keys(), keysAtStart), "Redis holds nobody any more", 10_000);
    expect(await Promise.all([a, b].map((each) => each.log().includes("bug")))).toEqual([false, false]);
  }, 60_000);
