// kill -9 of one of two instances under load: its users go on at the other one at once, their friends learn who does
// not, nothing that was acknowledged is lost, doubled or out of order, and the dead one leaves nothing behind.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { Redis } from "ioredis";
import { MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { type RunningServer, until } from "../harness.ts";
import { databaseOf } from "../services.ts";
import { login, register, type User, type Wire } from "../wire.ts";
import { Crowd, readShared, untilSettled } from "./cluster-crowd.ts";
import { compare, FLAWLESS } from "./crowd.ts";

let cluster: RunningCluster;
let a: RunningServer;
let b: RunningServer;

beforeAll(async () => {
  cluster = await startCluster();
  [a, b] = await Promise.all([cluster.start(), cluster.start()]);
});
afterAll(() => cluster.stop());

/** Logs in without takeover, as often as it takes; the milliseconds until it has worked. */
async function enter(port: number, user: User): Promise<[Wire, number]> {
  const startedAt = performance.now();
  for (;;) {
    const wire = await login(port, user).catch((error: Error) => {
      if (!error.message.includes('"errno":2')) throw error;
      return null;
    });
    if (wire !== null) return [wire, performance.now() - startedAt];
    if (performance.now() - startedAt > 10_000) throw new Error(`${user.name} is still online`);
  }
}

test("an instance is killed under load", async () => {
  const crowd = await Crowd.at([a.port, b.port]);
  crowd.write();
  const [gone, watcher, ...others] = await Promise.all(Array.from({ length: 10 }, () => register(b.port)));
  const friends = await login(b.port, watcher!);
  for (const { id } of [gone!, ...others]) await friends.ask({ msgId: MsgId.addFriend, friendId: id });
  await Promise.all([gone!, ...others].map((user) => login(a.port, user)));
  await untilSettled(cluster.mariadb);
  await until(() => friends.received.filter((each) => each.state === "online").length === 9, "all are online");
  friends.rest();
  await crowd.advance(300);

  const killedAt = performance.now();
  await a.stop("SIGKILL");
  crowd.gates[0]!.target = b.port;
  const entered = await Promise.all(others.map((user) => enter(b.port, user)));
  for (const [, ms] of entered) expect(ms).toBeLessThan(1_000);
  const offline = await friends.push(MsgId.presence, 12_000);
  expect(performance.now() - killedAt).toBeLessThan(10_000);
  expect(offline).toMatchObject({ id: gone!.id, state: "offline" });
  await crowd.advance(300);
  await crowd.rest();
  // Those who came back within the grace were never away.
  expect(friends.rest().filter(({ msgId }) => msgId === MsgId.presence)).toEqual([]);

  expect(crowd.faults).toEqual([]);
  expect(compare(await readShared(cluster.mariadb, cluster.url), crowd.sent)).toEqual(FLAWLESS);
  expect(crowd.sent.length).toBeGreaterThan(600);

  const again = await login(b.port, gone!);
  expect(await friends.push(MsgId.presence)).toMatchObject({ id: gone!.id, state: "online" });
  for (const wire of [again, friends, ...entered.map(([each]) => each)]) wire.close();
  await crowd.close();
  const redis = new Redis(cluster.redis!.url);
  await until(async () => (await redis.keys("*:user:*")).length === 0, "Redis names nobody");
  redis.disconnect();
  const [{ instances }] = (await cluster.mariadb.admin(
    `SELECT COUNT(*) AS instances FROM ${databaseOf(cluster.url)}.instance`,
  )) as [{ instances: number }];
  expect(instances).toBe(1);
}, 60_000);
