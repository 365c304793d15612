// An instance that hears nobody for a while, and serves a device that has moved on meanwhile.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { type Forwarder, startForwarder } from "../forwarder.ts";
import type { RunningServer } from "../harness.ts";
import { type RunningRedis, startRedis } from "../services.ts";
import { login, register } from "../wire.ts";

let cluster: RunningCluster;
let redis: RunningRedis;
/** Between one instance and its Redis. */
let link: Forwarder;
let other: RunningServer;

beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(false), startRedis()]);
  link = await startForwarder(redis.port);
  other = await cluster.start(["--redis", redis.url]);
}, 30_000);
afterAll(async () => {
  await cluster.stop();
  await Promise.all([redis.stop(), link.stop()]);
});

test("what it delivers to a connection of before is not passed over when the device comes back", async () => {
  const [ann, bob] = [await register(other.port), await register(other.port)];
  let isPushed = false;
  for (let attempt = 1; !isPushed && attempt <= 20; attempt++) {
    const deaf = await cluster.start(["--redis", `redis://127.0.0.1:${link.port}`]);
    const sender = await login(deaf.port, bob);
    const before = await login(deaf.port, ann, { takeover: true });
    link.swallow();
    // Until it looks into the store again, every two seconds, the instance does not know that the device is elsewhere.
    (await login(other.port, ann, { takeover: true })).close();
    expect((await sender.ask({ msgId: MsgId.chat, toid: ann.id, msg: `${attempt}` })).errno).toBe(0);
    await before.whenEnded(10_000);
    isPushed = before.received.some(({ msgId, msg }) => msgId === MsgId.chat && msg === `${attempt}`);
    // What it would save of that session, it has saved then.
    await deaf.stop();
    link.heal();
    const after = await login(other.port, ann, { takeover: true });
    expect((await after.push(MsgId.chat)).msg).toBe(`${attempt}`);
    after.close();
  }
  expect(isPushed).toBe(true);
}, 120_000);
