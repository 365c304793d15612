// Redis as a cluster of three nodes, and as a master that a Sentinel names: two instances talk, see each other's users and
// take sessions over through them, and go on after the Sentinel has named another master.
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import { freePort, type RunningServer, runProgram, temporaryFolder, until } from "../harness.ts";
import { type RunningRedis, startMariadb, startRedis } from "../services.ts";
import { login, register, type User, type Wire } from "../wire.ts";
import { startInstance } from "./cluster-crowd.ts";

/** Without Redis a message waits for the next poll, every 2 s. */
const LIVE_MS = 500;

const NODE_TIMEOUT = ["--cluster-node-timeout", "2000"];

const cleanUps: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function start(redisUrls: string[]): Promise<[RunningServer, RunningServer]> {
  const mariadb = await startMariadb();
  cleanUps.push(() => mariadb.stop());
  const instances = await Promise.all([startInstance(mariadb.url, redisUrls), startInstance(mariadb.url, redisUrls)]);
  for (const instance of instances) cleanUps.push(() => instance.stop("SIGKILL"));
  return instances as [RunningServer, RunningServer];
}

const cli = async (port: number, ...command: string[]): Promise<string> => {
  const { code, output, errors } = await runProgram(["redis-cli", "-p", String(port), ...command], {}, 30_000);
  if (code !== 0) throw new Error(`redis-cli ${command}: ${output}${errors}`);
  return output;
};

let texts = 0;

/** Waits until messages arrive at once: by way of Redis. */
const untilLive = (from: Wire, to: Wire, toid: number): Promise<void> =>
  until(
    async () => {
      for (let i = 0; i < 3; i++) {
        const msg = `text ${++texts}`;
        expect((await from.ask({ msgId: MsgId.chat, toid, msg })).errno).toBe(0);
        const ackedAt = performance.now();
        await to.next((each) => each.msg === msg && each.ack === undefined, msg, 6_000);
        if (performance.now() - ackedAt > LIVE_MS) return false;
      }
      return true;
    },
    "messages arrive at once",
    20_000,
  );

/** What instances do by way of Redis. */
async function serve(a: RunningServer, b: RunningServer): Promise<[User, Wire][]> {
  const users = await Promise.all(Array.from({ length: 20 }, (_, i) => register(i % 2 === 0 ? a.port : b.port)));
  const wires = await Promise.all(users.map((user, i) => login(i % 2 === 0 ? a.port : b.port, user)));
  const [ann, bob] = [users[0]!, users[1]!];
  const [onA, onB] = [wires[0]!, wires[1]!];
  await untilLive(onA, onB, bob.id);
  await untilLive(onB, onA, ann.id);
  // Users of all shards.
  const { groupid } = await onA.ask({ msgId: MsgId.createGroup, groupname: "all" });
  for (const wire of wires.slice(1)) expect((await wire.ask({ msgId: MsgId.joinGroup, groupid })).errno).toBe(0);
  await onA.ask({ msgId: MsgId.groupChat, groupid, msg: "to all" });
  for (const wire of wires.slice(1)) expect((await wire.push(MsgId.groupChat)).msg).toBe("to all");
  const startedAt = performance.now();
  const taken = await login(a.port, bob, { takeover: true });
  // Answered, not waited for in vain.
  expect(performance.now() - startedAt).toBeLessThan(900);
  expect((await onB.push(MsgId.notice)).errno).toBe(21);
  taken.close();
  const bobAgain = await login(b.port, bob, { takeover: true });
  await untilLive(onA, bobAgain, bob.id);
  return [
    [ann, onA],
    [bob, bobAgain],
  ];
}

const noComplaints = (...instances: RunningServer[]): void => {
  for (const instance of instances) expect(instance.log()).not.toMatch(/WARN.*Redis|ERROR/);
};

test("a Redis Cluster of three nodes", async () => {
  const nodes = await Promise.all(
    Array.from({ length: 3 }, async () =>
      startRedis(["--cluster-enabled", "yes", "--cluster-port", String(freePort()), ...NODE_TIMEOUT]),
    ),
  );
  for (const node of nodes) cleanUps.push(() => node.stop());
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
  await cli(nodes[0]!.port, "--cluster", "create", ...addresses, "--cluster-yes");
  const agree = async () =>
    (await Promise.all(nodes.map(({ port }) => cli(port, "cluster", "info")))).every((info) =>
      info.includes("cluster_state:ok"),
    );
  await until(agree, "the nodes agree");
  const [a, b] = await start([`redis+cluster://${addresses.slice(0, 2).join(",")}`]);
  await serve(a, b);
  noComplaints(a, b);
  const sizes = await Promise.all(nodes.map(({ port }) => cli(port, "dbsize")));
  expect(sizes.filter((size) => Number(size) > 0).length).toBeGreaterThan(1);
}, 60_000);

/** A Sentinel that watches `master`, on its own. */
async function startSentinel(master: RunningRedis): Promise<RunningRedis> {
  const folder = mkdtempSync(join(temporaryFolder(), "sentinel-"));
  const file = join(folder, "sentinel.conf");
  writeFileSync(
    file,
    `sentinel monitor chat 127.0.0.1 ${master.port} 1
sentinel down-after-milliseconds chat 1000
sentinel failover-timeout chat 3000
`,
  );
  const sentinel = await startRedis([], [file, "--sentinel"]);
  cleanUps.push(() => sentinel.stop());
  return sentinel;
}

test("a master that a Sentinel names, and the next one when that dies", async () => {
  const master = await startRedis();
  cleanUps.push(() => master.stop());
  const replica = await startRedis(["--replicaof", `127.0.0.1 ${master.port}`]);
  cleanUps.push(() => replica.stop());
  const sentinel = await startSentinel(master);
  const knows = async () => (await cli(sentinel.port, "sentinel", "replicas", "chat")).includes(String(replica.port));
  await until(knows, "the Sentinel knows the replica", 20_000);
  const [a, b] = await start([`redis+sentinel://127.0.0.1:${sentinel.port}/chat`]);
  const [[, onA], [bob, onB]] = (await serve(a, b)) as [[User, Wire], [User, Wire]];
  noComplaints(a, b);
  await master.kill();
  const named = async () =>
    (await cli(sentinel.port, "sentinel", "get-master-addr-by-name", "chat")).includes(String(replica.port));
  await until(named, "the Sentinel names the replica", 20_000);
  await untilLive(onA, onB, bob.id);
}, 90_000);
