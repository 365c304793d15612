// What the database commits and the instance does not learn of: its own clients are told all the same.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Errno, type JsonObject, MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { type Forwarder, startForwarder } from "../forwarder.ts";
import { type RunningServer, until } from "../harness.ts";
import { databaseOf } from "../services.ts";
import { login, register } from "../wire.ts";
import { startInstance, untilSettled } from "./cluster-crowd.ts";

/** Longer than a look for changes reaches back by itself. */
const OUTAGE_MS = 14_000;

let cluster: RunningCluster;
/** Between one instance and the database. */
let link: Forwarder;
let one: RunningServer;
let two: RunningServer;

beforeAll(async () => {
  cluster = await startCluster(false);
  link = await startForwarder(cluster.mariadb.port);
  one = await startInstance(cluster.url.replace(/:\d+\//, `:${link.port}/`), [], ["--store-timeout", "1"]);
  two = await cluster.start();
  await untilSettled(cluster.mariadb);
}, 40_000);
afterAll(async () => {
  await one.stop("SIGKILL");
  link.stop();
  await cluster.stop();
});

const REQUESTS: [string, (id: number) => JsonObject][] = [
  ["a message", (toid) => ({ msgId: MsgId.chat, toid, msg: "whose answer is lost", mid: "lost" })],
  ["a friend", (friendId) => ({ msgId: MsgId.addFriend, friendId, msg: "whose answer is lost" })],
];

test.each(REQUESTS)(
  "%s whose COMMIT's answer is lost with the database is delivered when that is back",
  async (_, requestTo) => {
    const [a, b] = [await register(one.port), await register(one.port)];
    const [ann, bob, elsewhere] = [
      await login(one.port, a),
      await login(one.port, b),
      await login(two.port, b, { device: "elsewhere" }),
    ];
    const request = requestTo(b.id);
    link.watch((data) => {
      if (!data.includes("whose answer is lost")) return "pass";
      setImmediate(() => link.swallow());
      return "cut";
    });
    expect((await ann.ask(request)).errno).toBe(Errno.unavailable);
    link.watch(() => "pass");
    // By then nobody asks any more how the COMMIT ended.
    expect((await elsewhere.push(request.msgId as number)).seq).toBe(1);
    link.heal();
    expect((await bob.push(request.msgId as number)).seq).toBe(1);
    for (const wire of [ann, bob, elsewhere]) wire.close();
  },
  40_000,
);

test("who came and who went before the database was away for long: that is told when it is back", async () => {
  const [x, y, z] = [await register(one.port), await register(one.port), await register(two.port)];
  const follower = await login(two.port, z);
  for (const { id } of [x, y]) await follower.ask({ msgId: MsgId.addFriend, friendId: id });
  const first = await login(one.port, x);
  expect(await follower.push(MsgId.presence)).toMatchObject({ id: x.id, state: "online" });
  await login(one.port, y);
  first.close();
  const held = async () =>
    (await cluster.mariadb.admin(`SELECT boot FROM ${databaseOf(cluster.url)}.device WHERE user_id = ${x.id}`))[0]!
      .boot;
  await until(async () => String(await held()) === "", "the end of the session is stored");
  cluster.mariadb.pause();
  await Bun.sleep(OUTAGE_MS);
  cluster.mariadb.resume();
  const states = [await follower.push(MsgId.presence, 20_000), await follower.push(MsgId.presence, 20_000)];
  const told = Object.fromEntries(states.map(({ id, state }) => [id, state]));
  expect(told).toEqual({ [x.id]: "offline", [y.id]: "online" });
}, 60_000);
