// Two instances behind nginx with the configuration that ships: clients on different instances talk, those of an instance
// that is killed, drained or added under load lose nothing.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { Redis } from "ioredis";
import { Errno, MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { type RunningServer, until } from "../harness.ts";
import { type RunningNginx, startNginx } from "../nginx.ts";
import { databaseOf } from "../services.ts";
import { type User, Wire } from "../wire.ts";
import { Crowd, readShared } from "./cluster-crowd.ts";
import { compare, FLAWLESS } from "./crowd.ts";

let cluster: RunningCluster;
let nginx: RunningNginx;
let a: RunningServer;
let b: RunningServer;
const servers: RunningServer[] = [];
let crowd: Crowd;

async function start(): Promise<RunningServer> {
  const server = await cluster.start(["--proxy-protocol", "--log-level", "debug"]);
  servers.push(server);
  return server;
}

beforeAll(async () => {
  cluster = await startCluster();
  [a, b] = await Promise.all([start(), start()]);
  nginx = await startNginx(a.port, b.port);
  crowd = await Crowd.at([nginx.port]);
}, 30_000);
afterAll(async () => {
  await crowd?.close();
  await nginx?.stop();
  await cluster?.stop();
});

let guests = 0;

const isOn = (server: RunningServer, { id }: User): boolean => server.log().includes(`user ${id} logged in from`);

/** A fresh user on `server`, come by way of nginx. */
async function enter(server: RunningServer): Promise<[User, Wire]> {
  for (let attempt = 1; ; attempt++) {
    const wire = await Wire.connect(nginx.port);
    const [name, password] = [`guest${++guests}`, "secret1"];
    const id = (await wire.ask({ msgId: MsgId.register, name, password })).id as number;
    const user = { id, name, password };
    expect((await wire.ask({ msgId: MsgId.login, id, password })).errno).toBe(0);
    await until(() => servers.some((each) => isOn(each, user)), "the log-in is logged");
    if (isOn(server, user)) return [user, wire];
    wire.close();
    if (attempt > 20) throw new Error("nginx does not send anybody there");
  }
}

async function talk([[ann, first], [bob, second]]: [[User, Wire], [User, Wire]]): Promise<void> {
  await first.ask({ msgId: MsgId.chat, toid: bob.id, msg: "hello" });
  expect((await second.push(MsgId.chat)).msg).toBe("hello");
  await second.ask({ msgId: MsgId.chat, toid: ann.id, msg: "hello yourself" });
  expect((await first.push(MsgId.chat)).msg).toBe("hello yourself");
}

test("clients that nginx put on different instances talk", async () => {
  await talk([await enter(a), await enter(b)]);
  for (const server of [a, b]) expect(crowd.writers.some(({ user }) => isOn(server, user))).toBe(true);
});

test("an instance is added by a reload, killed, and another one drained: nobody loses a message", async () => {
  crowd.write();
  await crowd.advance(200);
  const breaks = () => crowd.writers.reduce((sum, { client }) => sum + client.told.offline.length, 0);
  const before = breaks();
  const c = await start();
  nginx.addInstance(c.port);
  await talk([await enter(c), await enter(a)]);
  await crowd.advance(200);
  expect(breaks()).toBe(before);

  await a.stop("SIGKILL");
  await crowd.advance(300);
  expect(breaks()).toBeGreaterThan(before);

  const parting = await Promise.all(Array.from({ length: 5 }, () => enter(b)));
  const rows = await cluster.mariadb.admin(
    `SELECT boot FROM ${databaseOf(cluster.url)}.instance WHERE address LIKE '%' ORDER BY boot`,
  );
  const ended = b.stop("SIGTERM");
  const notices = await Promise.all(parting.map(([, wire]) => wire.push(MsgId.notice)));
  expect(notices.map(({ errno }) => errno)).toEqual(Array(5).fill(Errno.shuttingDown));
  expect(new Set(notices.map(({ retryAfterMs }) => retryAfterMs)).size).toBeGreaterThan(1);
  expect(await ended).toBe(0);
  const left = await cluster.mariadb.admin(`SELECT boot FROM ${databaseOf(cluster.url)}.instance`);
  expect(left.length).toBeLessThan(rows.length);
  // Its entries are gone with it: those that there are name others.
  const redis = new Redis(cluster.redis!.url);
  const living = new Set(left.map(({ boot }) => String(boot)));
  const deadBoots = rows.map(({ boot }) => String(boot)).filter((boot) => !living.has(boot));
  const entries = async () => {
    const keys = await redis.keys("*:user:*");
    return (await Promise.all(keys.map((key) => redis.hvals(key)))).flat();
  };
  await until(
    async () => !(await entries()).some((entry) => deadBoots.some((boot) => entry.startsWith(boot))),
    "Redis names no dead instance",
    12_000,
  );
  redis.disconnect();
  await crowd.advance(200);
  await crowd.rest();
  expect(crowd.faults).toEqual([]);
  const writers = new Set(crowd.writers.map(({ user }) => user.id));
  const stored = (await readShared(cluster.mariadb, cluster.url)).filter(({ sender }) => writers.has(sender));
  expect(compare(stored, crowd.sent)).toEqual(FLAWLESS);
}, 90_000);
