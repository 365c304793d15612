// What happens to Redis itself: it holds nothing that cannot be lost, so all of it may.
import { Redis } from "ioredis";
import type { Fault, World } from "./fault.ts";
import { redisNetworkFaults } from "./faults-network.ts";

/** For Redis to be back after it has been let go. */
const BACK_MS = 20_000;

/** A fault of the one Redis: it claims it, and tells when it is back. */
const ofRedis = (name: string, act: (world: World, redis: Redis) => Promise<void>, weight = 1): Fault => ({
  name: `redis ${name}`,
  weight,
  async inject(world) {
    const release = await world.claim("redis");
    // Straight to it, not by a gate; while it is away commands wait.
    const redis = new Redis(world.redis.url, { retryStrategy: () => 50, maxRetriesPerRequest: null });
    redis.on("error", () => undefined);
    try {
      await act(world, redis);
      await untilBack(redis);
      world.mark("redis-returned");
    } finally {
      redis.disconnect();
      release();
    }
  },
});

async function untilBack(redis: Redis): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const late = setTimeout(() => reject(new Error(`Redis was not back within ${BACK_MS} ms`)), BACK_MS);
  await Promise.race([redis.ping(), promise]).finally(() => clearTimeout(late));
}

/** Sets values of its configuration, waits, and sets them back. */
async function configured(redis: Redis, values: Record<string, string>, work: () => Promise<void>): Promise<void> {
  const before: [string, string][] = [];
  for (const name of Object.keys(values)) before.push([name, ((await redis.config("GET", name)) as string[])[1]!]);
  const set = async (pairs: [string, string][]) => {
    for (const [name, value] of pairs) await redis.config("SET", name, value);
  };
  try {
    await set(Object.entries(values));
    await work();
  } finally {
    await set(before);
  }
}

/** As an instance would publish it, and of no meaning; so long that it does not fit into a small buffer. */
const noise = (bytes: number): string => `${" ".repeat(bytes)}{"from":"nobody","envelopes":[]}`;
const NOISE_BYTES = 256 * 1024;

const kill = ofRedis(
  "kill",
  async (world) => {
    world.begin();
    await world.redis.kill();
    await world.wait(world.random.ms(200, 10_000));
    await world.redis.restart();
  },
  2,
);

const restart = ofRedis("restart", async (world) => {
  world.begin();
  await world.redis.restart();
});

const flush = ofRedis("flushall", async (world, redis) => {
  world.begin();
  // The second one meets what enters its sessions again.
  const again = world.random.chance(0.5);
  await redis.flushall();
  if (!again) return;
  await world.wait(world.random.ms(20, 2_000));
  await redis.flushall();
});

const pause = ofRedis("pause", async (world) => {
  const ms = world.random.ms(500, 20_000);
  world.begin(`${ms} ms`);
  world.redis.pause();
  try {
    await world.wait(ms);
  } finally {
    world.redis.resume();
  }
});

/** Connections stand, commands wait; with WRITE what only reads is answered. */
const clientPause = ofRedis("client pause", async (world, redis) => {
  const kind = world.random.pick(["ALL", "WRITE"]);
  const ms = world.random.ms(500, 8_000);
  world.begin(`${kind} ${ms} ms`);
  await redis.call("CLIENT", "PAUSE", String(ms), kind);
  await world.wait(ms);
  // A write waits until the end of the pause.
  await redis.publish("soak", "");
});

/** A script of somebody else that does not end: at first nobody is answered, past the threshold with errors. */
const busy = ofRedis("busy", async (world, redis) => {
  const ms = world.random.ms(300, 6_000);
  world.begin(`${ms} ms`);
  await configured(redis, { "busy-reply-threshold": String(world.random.ms(100, 3_000)) }, async () => {
    const other = redis.duplicate();
    const ended = other.eval("while true do end", 0).catch(() => undefined);
    await world.wait(ms);
    await redis.call("SCRIPT", "KILL");
    await ended;
    other.disconnect();
  });
});

const dropSubscriptions = ofRedis("subscriptions killed", async (world, redis) => {
  world.begin();
  const times = world.random.int(1, 3);
  for (let time = 1; time <= times; time++) {
    await redis.call("CLIENT", "KILL", "TYPE", "pubsub");
    if (time < times) await world.wait(world.random.ms(50, 3_000));
  }
});

/** Subscribers that cannot take what comes at once are disconnected, as slow ones are. */
const outputLimit = ofRedis("output limit", async (world, redis) => {
  world.begin();
  const until = performance.now() + world.random.ms(500, 5_000);
  await configured(redis, { "client-output-buffer-limit": "pubsub 1 1 1" }, async () => {
    do {
      for (const channel of (await redis.pubsub("CHANNELS")) as string[])
        await redis.publish(channel, noise(NOISE_BYTES));
      await world.wait(world.random.ms(50, 1_000));
    } while (performance.now() < until);
  });
});

/** Whatever would need more memory is refused, publishing is not. */
const outOfMemory = ofRedis("out of memory", async (world, redis) => {
  world.begin();
  await configured(redis, { maxmemory: "1", "maxmemory-policy": "noeviction" }, () =>
    world.wait(world.random.ms(500, 10_000)),
  );
});

/** Some of what it holds goes, unnoticed: the sentinel key may stay. */
const evicting = ofRedis("evicting", async (world, redis) => {
  world.begin();
  const keys = world.random.shuffle(await redis.keys("*"));
  for (const key of keys.slice(0, Math.ceil(keys.length / 2))) await redis.del(key);
});

export const redisFaults: Fault[] = [
  kill,
  restart,
  flush,
  pause,
  clientPause,
  busy,
  dropSubscriptions,
  outputLimit,
  outOfMemory,
  evicting,
  ...redisNetworkFaults,
];
