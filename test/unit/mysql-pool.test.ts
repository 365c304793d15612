// The pool of connections: who waits for one gets the next that is free, and no connection is lost to the pool, or outlives it.
import { expect, test } from "bun:test";
import { StoreError } from "../../src/db/db.ts";
import { ConnectionLost, type MysqlConnection } from "../../src/db/mysql-connection.ts";
import { type Connector, Pool } from "../../src/db/mysql-pool.ts";
import { until } from "../harness.ts";

const LONG_MS = 20_000;
const later = () => performance.now() + LONG_MS;

/** A connection that is there; `end` is how it was ended. */
class Stand {
  lost: ConnectionLost | null = null;
  end = "";

  close(): void {
    this.lost ??= new ConnectionLost("closed");
    this.end ||= "closed";
  }

  destroy(): void {
    this.lost ??= new ConnectionLost("destroyed");
    this.end ||= "destroyed";
  }
}

/** A pool of `size`, and all connections that were made for it; each is made when `open` lets it be. */
function poolOf(size: number, open: () => Promise<unknown> = async () => undefined) {
  const made: Stand[] = [];
  const connector = {
    open: async () => {
      await open();
      const stand = new Stand();
      made.push(stand);
      return stand as unknown as MysqlConnection;
    },
    isGood: ({ lost }: MysqlConnection) => lost === null,
  } as unknown as Connector;
  return { pool: new Pool(connector, size, async () => undefined), made };
}

/** Something that is done with a connection until it is told to end. */
function task(pool: Pool, deadline = later()) {
  const begun = Promise.withResolvers<Stand>();
  const goOn = Promise.withResolvers<void>();
  const done = pool.use(deadline, async (connection) => {
    begun.resolve(connection as unknown as Stand);
    await goOn.promise;
  });
  const ended = done.then(
    () => null,
    (error: unknown) => error,
  );
  return { begun: begun.promise, finish: () => goOn.resolve(), ended };
}

test("who waits gets the connections in turn, and there are never more than there may be", async () => {
  const { pool, made } = poolOf(2);
  const tasks = Array.from({ length: 6 }, () => task(pool));
  const used: Stand[] = [];
  for (const { begun, finish } of tasks) {
    used.push(await begun);
    finish();
  }
  expect(await Promise.all(tasks.map(({ ended }) => ended))).toEqual(tasks.map(() => null));
  expect(made).toHaveLength(2);
  expect(new Set(used).size).toBe(2);
});

test("who has waited for too long is told so, and gets none later: it would never come back", async () => {
  const { pool, made } = poolOf(1);
  const first = task(pool);
  await first.begun;
  const impatient = task(pool, performance.now() + 1);
  expect(await impatient.ended).toBeInstanceOf(StoreError);
  const next = task(pool);
  first.finish();
  next.finish();
  expect(await next.ended).toBeNull();
  const last = task(pool);
  last.finish();
  expect([await last.ended, made.length]).toEqual([null, 1]);
});

test("a connection that is lost makes room for another one, whoever has it", async () => {
  const { pool, made } = poolOf(1);
  for (let i = 0; i < 3; i++) {
    const first = task(pool);
    const stand = await first.begun;
    const waiting = task(pool);
    // While it is used: who waits gets a new one.
    stand.destroy();
    first.finish();
    const fresh = await waiting.begun;
    expect(fresh).not.toBe(stand);
    waiting.finish();
    expect(await waiting.ended).toBeNull();
    // While nobody has it.
    fresh.destroy();
  }
  expect(made).toHaveLength(6);
});

test("where none can be made who asked is told so, and the next one tries", async () => {
  const away = new ConnectionLost("away");
  let attempt = Promise.withResolvers<void>();
  const { pool } = poolOf(1, () => attempt.promise);
  const first = task(pool);
  const waiting = task(pool);
  const { reject } = attempt;
  attempt = Promise.withResolvers();
  reject(away);
  expect(await first.ended).toBe(away);
  attempt.resolve();
  waiting.finish();
  expect(await waiting.ended).toBeNull();
  const last = task(pool);
  last.finish();
  expect(await last.ended).toBeNull();
});

test("a pool that is closed ends all of its connections: idle ones, used ones, and one that is being made", async () => {
  const making = Promise.withResolvers<void>();
  let makes = 0;
  const { pool, made } = poolOf(3, async () => {
    if (++makes === 3) await making.promise;
  });
  const [idle, used, late] = [task(pool), task(pool), task(pool)] as const;
  await Promise.all([idle.begun, used.begun]);
  idle.finish();
  late.finish();
  expect(await late.begun).toBe(await idle.begun);
  await late.ended;
  pool.close();
  expect(made.map(({ end }) => end)).toEqual(["closed", "destroyed"]);
  expect(await task(pool).ended).toBeInstanceOf(StoreError);
  making.resolve();
  await until(() => made[2]?.end === "closed", "the last one is ended too");
});

test("where the server allows no more, who asks gets what becomes free, and a new one is tried again later", async () => {
  let allowed = true;
  let refuse: (error: Error) => void = () => undefined;
  const { pool, made } = poolOf(2, () => {
    if (allowed) return Promise.resolve();
    const { promise, reject } = Promise.withResolvers();
    refuse = reject;
    return promise;
  });
  const first = task(pool);
  const stand = await first.begun;
  allowed = false;
  const tasks = [task(pool), task(pool), task(pool)];
  first.finish();
  expect(await tasks[0]!.begun).toBe(stand);
  // Not an error of those who still wait.
  allowed = true;
  refuse(new ConnectionLost("too many"));
  expect(await tasks[1]!.begun).toBe(made[1]!);
  for (const { finish } of tasks) finish();
  expect(await Promise.all(tasks.map(({ ended }) => ended))).toEqual([null, null, null]);
});

test("who waits for a pool that is closed hears at once", async () => {
  const { pool } = poolOf(1);
  const used = task(pool);
  await used.begun;
  const waiting = task(pool);
  pool.close();
  expect(await waiting.ended).toEqual(new StoreError("the store is closed"));
  used.finish();
  expect(await used.ended).toBeNull();
});
