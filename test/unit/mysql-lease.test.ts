// A boot's lease: how long it counts, when it is asked for again, and what it says of others; with a clock of the test's own.
import { afterEach, beforeEach, expect, jest, test } from "bun:test";
import { type Boot, LEASE_S } from "../../src/db/mysql-boot.ts";
import { ConnectionLost, type MysqlConnection } from "../../src/db/mysql-connection.ts";
import { Lease } from "../../src/db/mysql-lease.ts";
import type { Connector } from "../../src/db/mysql-pool.ts";

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

/** What is to be done at once is done. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

async function pass(ms: number): Promise<void> {
  await settle();
  for (let left = ms; left > 0; left -= 50) {
    jest.advanceTimersByTime(Math.min(50, left));
    await settle();
  }
}

/** The database, as far as a lease knows it. */
class Database {
  connections: MysqlConnection[] = [];
  registered: MysqlConnection[] = [];
  renewals = 0;
  /** How it answers a renewal: how many boots it found; null: not at all. */
  answer: () => Promise<number | null> = async () => 1;
  /** How long it takes to be connected. */
  connectMs = 0;

  open = async (_: number, setUp: (connection: MysqlConnection) => Promise<void>): Promise<MysqlConnection> => {
    if (this.connectMs > 0) await new Promise<void>((resolve) => setTimeout(resolve, this.connectMs));
    const connection = {
      lost: null as ConnectionLost | null,
      onLost: null as (() => void) | null,
      destroy: () => {
        if (connection.lost !== null) return;
        connection.lost = new ConnectionLost("destroyed");
        connection.onLost?.();
      },
      query: async () => {
        if (connection.lost !== null) throw connection.lost;
        this.renewals++;
        const changes = await this.answer();
        if (connection.lost !== null) throw connection.lost;
        return changes === null ? new Promise(() => undefined) : [{ changes }];
      },
    };
    const made = connection as unknown as MysqlConnection;
    this.connections.push(made);
    await setUp(made);
    return made;
  };

  get last(): MysqlConnection {
    return this.connections.at(-1)!;
  }
}

function begin(database = new Database()) {
  const told: string[] = [];
  const boot = { name: "here", register: async (connection: MysqlConnection) => database.registered.push(connection) };
  const lease = new Lease(database as unknown as Connector, boot as unknown as Boot, performance.now(), {
    onLost: () => told.push("lost"),
    onRegained: () => told.push("regained"),
  });
  return { lease, database, told };
}

test("it is renewed every two seconds, on one connection that is entered as the boot's", async () => {
  const { lease, database, told } = begin();
  await pass(20_100);
  expect(database.renewals).toBe(11);
  expect(database.registered).toEqual(database.connections);
  expect(database.connections).toHaveLength(1);
  expect([lease.valid(), told]).toEqual([true, []]);
});

test("it counts from when its confirmation was asked for, not from the answer", async () => {
  const database = new Database();
  const answered = Promise.withResolvers<number>();
  database.answer = () => answered.promise;
  const { lease } = begin(database);
  await pass(1_500);
  database.answer = async () => null;
  answered.resolve(1);
  await pass(3_900);
  expect(lease.valid()).toBe(true);
  await pass(200);
  // The others may take the boot over after LEASE_S of the database's clock.
  expect([LEASE_S, lease.valid()]).toEqual([6, false]);
});

test("one that was too old is told of when it is confirmed after all: nobody has taken the boot over", async () => {
  const { lease, database, told } = begin();
  await pass(100);
  const answered = Promise.withResolvers<number>();
  database.answer = () => answered.promise;
  await pass(8_000);
  expect([lease.valid(), told]).toEqual([false, []]);
  database.answer = async () => 1;
  answered.resolve(1);
  await pass(1_000);
  expect([lease.valid(), told]).toEqual([true, ["regained"]]);
});

test("where others have taken the boot over it ends at once, with its connection, and is not renewed any more", async () => {
  const { lease, database, told } = begin();
  await pass(100);
  database.answer = async () => 0;
  await pass(2_000);
  expect([lease.valid(), told]).toEqual([false, ["lost"]]);
  expect(database.last.lost).not.toBeNull();
  const { renewals } = database;
  await pass(10_000);
  expect([database.renewals, database.connections.length, told]).toEqual([renewals, 1, ["lost"]]);
});

test("one that is stopped leaves no connection behind, whatever is under way, and tells nothing", async () => {
  const idle = begin();
  await pass(100);
  idle.lease.stop();
  const connecting = begin();
  connecting.lease.stop();
  const asking = begin();
  const answered = Promise.withResolvers<number>();
  asking.database.answer = () => answered.promise;
  await settle();
  asking.lease.stop();
  answered.resolve(0);
  await pass(10_000);
  for (const { lease, database, told } of [idle, connecting, asking]) {
    expect([lease.valid(), told]).toEqual([false, []]);
    expect(database.connections).toHaveLength(1);
    expect(database.last.lost).not.toBeNull();
  }
});

test("a connection that is lost is made again at once: a boot without any counts as ended", async () => {
  const { lease, database } = begin();
  await pass(1_000);
  for (let i = 2; i < 6; i++) {
    database.last.destroy();
    await settle();
    expect(database.connections).toHaveLength(i);
  }
  // It is renewed every two seconds as before.
  let { renewals } = database;
  await pass(20_000);
  expect(database.renewals - renewals).toBe(10);
  // And also where that happens while it is being renewed.
  const answered = Promise.withResolvers<number>();
  database.answer = () => answered.promise;
  database.connectMs = 500;
  await pass(2_000);
  database.last.destroy();
  database.answer = async () => 1;
  answered.resolve(1);
  await pass(2_000);
  ({ renewals } = database);
  await pass(20_000);
  expect([database.renewals - renewals, lease.valid()]).toEqual([10, true]);
  expect(database.connections).toHaveLength(6);
  expect(database.registered).toEqual(database.connections);
});

test("another one's lease proves it dead only where this one has been renewed in time for as long as a lease lasts", async () => {
  const { lease, database } = begin();
  await pass(5_900);
  expect([lease.provesOthersDead, lease.isRecovering]).toEqual([false, false]);
  await pass(200);
  expect([lease.provesOthersDead, lease.isRecovering]).toEqual([true, false]);
  const answered = Promise.withResolvers<number>();
  database.answer = () => answered.promise;
  // The next renewal, and as long as a late one may take.
  await pass(5_000);
  expect([lease.provesOthersDead, lease.isRecovering]).toEqual([false, true]);
  database.answer = async () => 1;
  answered.resolve(1);
  await pass(5_500);
  expect([lease.provesOthersDead, lease.isRecovering]).toEqual([false, true]);
  await pass(1_000);
  expect([lease.provesOthersDead, lease.isRecovering]).toEqual([true, false]);
});
