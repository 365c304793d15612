// The fast path between instances, on a real Redis: owners by compare-and-set, look-ups, one publish a boot, kicks, and
// what happens when Redis is emptied, hangs, dies, or drops a subscription without a word.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Redis } from "ioredis";
import type { LogRow } from "../../src/db/db.ts";
import { MsgId } from "../../src/protocol.ts";
import { RedisRouter } from "../../src/router/redis.ts";
import { startErrorOf } from "../../src/router/redis-client.ts";
import { parseRedisUrls } from "../../src/router/redis-url.ts";
import type { Hint, Owner } from "../../src/router/router.ts";
import { until } from "../harness.ts";
import { type RunningRedis, startRedis } from "../services.ts";

let redis: RunningRedis;
let admin: Redis;
const routers: RedisRouter[] = [];

interface Instance {
  router: RedisRouter;
  hints: Hint[];
  kicked: Owner[];
  seen: number[];
  resets: number;
  warnings: string[];
}

let prefixes = 0;

function join(prefix: string, boot: string, url = redis.url): Instance {
  const instance: Instance = { router: null as never, hints: [], kicked: [], seen: [], resets: 0, warnings: [] };
  instance.router = new RedisRouter(
    {
      target: parseRedisUrls(url)!,
      prefix,
      boot,
      log: { warn: (line) => instance.warnings.push(line), info: () => undefined },
    },
    {
      onHints: (hints) => instance.hints.push(...hints),
      onKick: (owner, done) => {
        instance.kicked.push(owner);
        done();
      },
      onPresence: (userId) => instance.seen.push(userId),
      onReset: () => {
        instance.resets++;
      },
    },
  );
  routers.push(instance.router);
  return instance;
}

async function pair(): Promise<[Instance, Instance]> {
  const prefix = `test${++prefixes}:`;
  const both: [Instance, Instance] = [join(prefix, "a"), join(prefix, "b")];
  for (const { router } of both) await router.ready(5_000);
  await until(() => both.every(({ router }) => router.heardOnce), "both are subscribed");
  return both;
}

const hint = (seq: number, text = "hi"): Hint => {
  const row: LogRow = [7, seq, MsgId.chat, 1, 3, `m${seq}`, 1_000, text];
  return { row, conv: "u:1-2", name: "ann", memberVersion: 0 };
};

beforeAll(async () => {
  redis = await startRedis();
  admin = new Redis(redis.url);
});
afterAll(async () => {
  for (const router of routers) await router.close();
  admin.disconnect();
  await redis.stop();
});

test("the higher epoch owns a device, in whatever order the claims arrive", async () => {
  const [a, b] = await pair();
  const owner = (epoch: number): Owner => ({ userId: 2, device: "phone", epoch });
  await a.router.claim(owner(1));
  expect(await b.router.locate([2])).toEqual(new Map([[2, ["a"]]]));
  await b.router.claim(owner(3));
  await a.router.claim(owner(2));
  expect(await a.router.locate([2])).toEqual(new Map([[2, ["b"]]]));
  expect(await b.router.locate([2])).toEqual(new Map());
  await a.router.release(owner(1));
  expect(await a.router.locate([2])).toEqual(new Map([[2, ["b"]]]));
  // Entered again, as it is from time to time, it stays there for long.
  const key = `test${prefixes}:{s2}:user:2`;
  await admin.expire(key, 10);
  await b.router.claim(owner(3));
  expect(await admin.ttl(key)).toBeGreaterThan(86_400);
  await b.router.release(owner(3));
  expect(await a.router.locate([2])).toEqual(new Map());
});

test("very many log-ins of one turn are all entered and found", async () => {
  const [a, b] = await pair();
  const ids = Array.from({ length: 2_500 }, (_, i) => i + 1);
  await Promise.all(ids.map((userId) => a.router.claim({ userId, device: "", epoch: 1 })));
  expect([...(await b.router.locate(ids))!.keys()]).toEqual(ids);
});

test("log-ins and ends of a turn leave together, what ends after what is entered", async () => {
  const [a, b] = await pair();
  const calls = async () => Number(/cmdstat_eval:calls=(\d+)/.exec(await admin.info("commandstats"))?.[1] ?? 0);
  const before = await calls();
  const owners = Array.from({ length: 50 }, (_, i): Owner => ({ userId: i, device: `phone-${i}`, epoch: 1 }));
  const left = owners.slice(0, 10).map((owner) => a.router.release(owner));
  await Promise.all([...owners.map((owner) => a.router.claim(owner)), ...left]);
  expect((await calls()) - before).toBe(2);
  const ids = owners.map(({ userId }) => userId);
  expect(await b.router.locate(ids)).toEqual(new Map(ids.slice(10).map((id) => [id, ["a"]])));
  const newer = owners.map((owner) => ({ ...owner, epoch: owner.userId % 2 ? 2 : 0 }));
  await Promise.all(newer.map((owner) => b.router.claim(owner)));
  expect((await a.router.locate(ids))!.get(11)).toEqual(["b"]);
  expect((await b.router.locate(ids))!.get(12)).toEqual(["a"]);
});

test("hints go where their receivers are, in one message a boot, and nowhere else", async () => {
  const [a, b] = await pair();
  const c = join(`test${prefixes}:`, "c");
  await until(() => c.router.heardOnce, "c is subscribed");
  await b.router.claim({ userId: 2, device: "", epoch: 1 });
  const published = async () => Number(/cmdstat_publish:calls=(\d+)/.exec(await admin.info("commandstats"))![1]);
  const batch = Array.from({ length: 100 }, (_, i) => ({ hint: hint(i + 1), receivers: [1, 2] }));
  const before = await published();
  await a.router.forward(batch);
  await until(() => b.hints.length === 100, "the hints");
  expect(b.hints).toEqual(batch.map((each) => each.hint));
  expect(c.hints).toEqual([]);
  expect(a.hints).toEqual([]);
  // One for the batch; the others are the probes of the instances.
  expect((await published()) - before).toBeLessThan(20);
});

test("hints for very many receivers go to every boot without a look-up", async () => {
  const [a, b] = await pair();
  await a.router.forward([{ hint: hint(1), receivers: Array.from({ length: 2_000 }, (_, i) => i + 1) }]);
  await until(() => b.hints.length === 1, "the hint");
});

test("a kick is answered, or waited for no longer than it is asked to", async () => {
  const [a, b] = await pair();
  const owner = { userId: 5, device: "desk", epoch: 9 };
  await a.router.kick("b", owner, 5_000);
  expect(b.kicked).toEqual([owner]);
  const startedAt = performance.now();
  await a.router.kick("nobody", owner, 100);
  expect(performance.now() - startedAt).toBeLessThan(3_000);
});

test("everybody else hears who came or went", async () => {
  const [a, b] = await pair();
  a.router.announce(42);
  await until(() => b.seen.includes(42), "the announcement");
  expect(a.seen).toEqual([]);
});

test("a Redis that was emptied is noticed by every instance", async () => {
  const [a, b] = await pair();
  const [c] = await pair();
  await c.router.close();
  await until(() => a.router.generationKnown && b.router.generationKnown, "both know the generation");
  const looks = async () => Number(/cmdstat_set:calls=(\d+)/.exec(await admin.info("commandstats"))![1]);
  const before = await looks();
  await until(async () => (await looks()) >= before + 4 * routers.length, "they have looked several times");
  expect([a.resets, b.resets]).toEqual([0, 0]);
  // One that is closed misses nothing.
  expect(c.warnings).toEqual([]);
  await admin.flushall();
  await until(() => a.resets === 1 && b.resets === 1, "both resets");
});

test("a subscription that was dropped without a word comes back", async () => {
  const [a, b] = await pair();
  await admin.call("CLIENT", "KILL", "TYPE", "pubsub");
  await until(async () => {
    a.router.announce(7);
    return b.seen.includes(7);
  }, "b hears again");
});

test("what another program publishes there is told of, whatever it is, and passed over", async () => {
  const [a, b] = await pair();
  const foreign = ["hello", "{}", "7", '{"from":"x","envelopes":7}'];
  for (const text of foreign) await admin.publish(`test${prefixes}:all`, text);
  a.router.announce(9);
  await until(() => b.seen.includes(9), "b hears what follows");
  expect(b.warnings.filter((line) => line.includes("--redis-prefix"))).toHaveLength(foreign.length);
});

test("what could not be taken out while Redis was away is taken out later, and all that is here is entered again", async () => {
  const [a, b] = await pair();
  const [own, others] = [5, 6].map((userId) => ({ userId, device: "", epoch: 1 })) as [Owner, Owner];
  await a.router.claim(own);
  await b.router.claim(others);
  await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  // Also for a boot that is found dead.
  await Promise.all([a.router.release(own), a.router.release(others, "b")]);
  await until(
    async () => (await a.router.locate([6]))?.size === 0 && (await b.router.locate([5]))?.size === 0,
    "both go",
  );
  await until(() => a.resets > 0, "it is told that it may have missed something", 20_000);
  expect(a.warnings.filter((line) => line.includes("emptied"))).toEqual([]);
});

test("while Redis hangs or is away everything answers in time, and afterwards it goes on", async () => {
  const [a, b] = await pair();
  redis.pause();
  const startedAt = performance.now();
  expect(await a.router.locate([1])).toBeNull();
  expect(performance.now() - startedAt).toBeLessThan(3_000);
  await until(() => !a.router.hears, "a knows that it is deaf");
  redis.resume();
  await until(() => a.router.hears && b.router.hears, "both hear again", 20_000);
  await redis.kill();
  await a.router.claim({ userId: 1, device: "", epoch: 1 });
  expect(await a.router.locate([1])).toBeNull();
  expect(a.warnings.length).toBeLessThan(10);
  await redis.restart();
  await until(() => a.router.hears && b.router.hears, "both hear again", 20_000);
  const emptied = ({ warnings }: Instance) => warnings.some((line) => line.includes("emptied"));
  await until(() => emptied(a) && emptied(b), "both know that it was emptied", 20_000);
  await until(async () => {
    a.router.announce(8);
    return b.seen.includes(8);
  }, "the announcement");
});

test("a database that Redis does not have ends the start, in place of its database 0", async () => {
  const url = `${redis.url}/99`;
  const error = await join("test:", "a", url)
    .router.ready(20_000)
    .catch((reason: Error) => reason);
  const { message } = startErrorOf(error as Error, parseRedisUrls(url)!, "test:");
  expect(message).toBe(`Redis at 127.0.0.1:${redis.port}/99 has no database 99: check --redis`);
  await join("test:", "a", `${redis.url}/15`).router.ready(20_000);
});

test("rights that are missing end the start, and those that are taken away later are told once", async () => {
  const login = redis.url.replace("redis://", "redis://chat:secret@");
  const mayAll = ["~*", "&*", "+@all"];
  const refusal = async (...rights: string[]) => {
    await admin.call("ACL", "SETUSER", "chat", "reset", "on", ">secret", ...rights);
    const error = await join("rights:", "a", login)
      .router.ready(20_000)
      .catch((reason: Error) => reason);
    return startErrorOf(error as Error, parseRedisUrls(login)!, "rights:").message;
  };
  for (const rights of [mayAll.slice(1), [mayAll[0]!, mayAll[2]!], ["~*", "&*", "+@all", "-publish"]])
    expect(await refusal(...rights)).toMatch(
      / gives user chat too few rights \(NOPERM .*\): ACL SETUSER chat ~rights:/,
    );
  await admin.call("ACL", "SETUSER", "chat", ...mayAll);
  const a = join("rights:", "b", login);
  await a.router.ready(20_000);
  await admin.call("ACL", "SETUSER", "chat", "resetchannels");
  await admin.config("RESETSTAT");
  const refused = async () =>
    Number(/cmdstat_publish:.*rejected_calls=(\d+)/.exec(await admin.info("commandstats"))?.[1] ?? 0);
  await until(async () => (await refused()) >= 3, "it has tried several times", 20_000);
  expect(a.warnings).toEqual([expect.stringMatching(/^Redis does not answer \(NOPERM .* channels .*\): messages/)]);
  expect(a.resets).toBe(0);
  await admin.call("ACL", "SETUSER", "chat", "&*");
  await until(() => a.resets === 1, "it is back", 20_000);
  expect(a.router.hears).toBe(true);
});

// Scenario: the password is changed, and the connections are ended. Until the next ones are refused there is just none.
test("an outage is told with what the connection met, in one line", async () => {
  const [a] = await pair();
  await admin.config("SET", "requirepass", "changed");
  await admin.call("CLIENT", "KILL", "TYPE", "pubsub");
  await admin.call("CLIENT", "KILL", "TYPE", "normal");
  await until(async () => {
    await a.router.locate([1]);
    return a.warnings.length > 0;
  }, "it is told");
  expect(a.warnings).toEqual([expect.stringMatching(/^Redis does not answer \(NOAUTH .*\): messages between/)]);
  await admin.config("SET", "requirepass", "");
  await until(() => a.router.hears, "a hears again", 20_000);
});
