// Looking after the other instances: who is taken over, and who must not be, with a clock and a table of instances of the test's own.
import { afterEach, beforeEach, expect, jest, test } from "bun:test";
import type { Boot } from "../../src/db/mysql-boot.ts";
import { ConnectionLost, DatabaseError, type Result } from "../../src/db/mysql-connection.ts";
import type { Lease } from "../../src/db/mysql-lease.ts";
import { Watch } from "../../src/db/mysql-watch.ts";

const resultOf = (...rows: (string | number)[][]): Result => ({ columns: [], rows, changes: 0, id: 0 });

/** The database, as far as a watch knows it. */
class Database {
  /** Each boot's lease. */
  readonly leases = new Map<string, { expires: string; expired: boolean }>();
  /** Boots that have a connection. */
  readonly connected = new Set<string>();
  /** Boots whose rows somebody holds. */
  readonly held = new Set<string>();
  /** Statements that fail. */
  failing: RegExp | null = null;
  uptimeS = 100;
  answersAfterMs = 0;
  looks = 0;
  cleaned = 0;
  /** Called in the middle of a look. */
  onLook: () => void = () => undefined;
  /** Called before a boot is taken over. */
  onBury: (boot: string) => void = () => undefined;

  readonly connection = {
    query: async (statements: string[]) => {
      if (this.answersAfterMs > 0) await Bun.sleep(this.answersAfterMs);
      return statements.map((sql) => this.answer(sql));
    },
    destroy: () => undefined,
  };

  /** A boot of this instance. */
  boot(name: string): Boot {
    this.leases.set(name, { expires: "0", expired: false });
    const pool = { use: (_: number, work: (connection: unknown) => Promise<unknown>) => work(this.connection) };
    return { name, pool, linked: new Set(), query: this.connection.query } as unknown as Boot;
  }

  private answer(sql: string): Result {
    if (this.failing?.test(sql)) throw new ConnectionLost("away");
    const boot = /boot = '(.*?)'/.exec(sql)?.[1] ?? "";
    if (sql.startsWith("SELECT boot, CAST")) {
      this.looks++;
      this.onLook();
      return resultOf(...[...this.leases].map(([name, { expires, expired }]) => [name, expires, expired ? 1 : 0]));
    }
    if (sql.startsWith("SELECT boot FROM instance")) {
      this.onBury(boot);
      if (this.held.has(boot)) throw new DatabaseError("ER_LOCK_WAIT_TIMEOUT", 1205, "HY000", "waited");
      const lease = this.leases.get(boot);
      const isWanted = lease !== undefined && (lease.expired || !sql.includes("expires <="));
      return isWanted ? resultOf([boot]) : resultOf();
    }
    if (sql.startsWith("DELETE FROM instance")) this.leases.delete(boot);
    if (sql.startsWith("DELETE FROM commit_log")) this.cleaned++;
    if (sql.includes("Uptime")) return resultOf(["Uptime", this.uptimeS]);
    if (sql.startsWith("SELECT UNIX_TIMESTAMP")) return resultOf([1_000_000]);
    if (sql.startsWith("SELECT CONNECTION_ID")) return resultOf([1, "me"]);
    if (sql.startsWith("SELECT conn_id")) return resultOf([boot, "me", 0]);
    if (sql === "SHOW PROCESSLIST") return resultOf(...[...this.connected].map((name) => [name]));
    return resultOf();
  }
}

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 50) {
    jest.advanceTimersByTime(Math.min(50, left));
    for (let i = 0; i < 100; i++) await Promise.resolve();
  }
}

/** The result of what waits a while. */
async function passed<T>(work: Promise<T>): Promise<T> {
  await pass(1_000);
  return work;
}

/** An instance "m" that watches. */
function begin() {
  const database = new Database();
  const own = database.boot("m");
  const gone: string[] = [];
  const watch = new Watch(5_000, (boots) => gone.push(boots.join()));
  const lease = { provesOthersDead: true, isRecovering: false };
  watch.start(own, lease as Lease);
  return { database, own, gone, watch, lease };
}

test("whose lease has expired, and who has not renewed it for three seconds, is taken over and told of once", async () => {
  const { database, watch, gone } = begin();
  database.leases.set("z", { expires: "1", expired: false });
  await pass(1_100);
  expect([...watch.otherBoots]).toEqual(["z"]);
  // The database's clock is set: it seems expired until it is renewed.
  for (let i = 2; i < 6; i++) {
    database.leases.set("z", { expires: String(i), expired: true });
    await pass(2_500);
  }
  expect([database.leases.has("z"), gone]).toEqual([true, []]);
  await pass(3_000);
  expect([database.leases.has("z"), gone]).toEqual([false, ["z"]]);
  await pass(10_000);
  expect([gone, watch.otherBoots.size]).toEqual([["z"], 0]);
});

test("one that was never seen alive is told of too", async () => {
  const { database, gone } = begin();
  database.leases.set("z", { expires: "1", expired: true });
  await pass(4_050);
  expect(gone).toEqual(["z"]);
});

test("who leaves is told of", async () => {
  const { database, gone, watch } = begin();
  database.leases.set("z", { expires: "1", expired: false });
  await pass(1_100);
  database.leases.delete("z");
  await pass(1_000);
  expect([gone, watch.otherBoots.size]).toEqual([["z"], 0]);
});

test("nobody is taken over after an outage, of this instance's or of the database, nor itself ever", async () => {
  const { database, own, gone, watch, lease } = begin();
  database.leases.set("z", { expires: "1", expired: true });
  database.leases.set("m", { expires: "1", expired: true });
  lease.provesOthersDead = false;
  lease.isRecovering = true;
  await pass(10_000);
  expect(await passed(watch.fenceIfDead(own, "z"))).toBe(false);
  lease.provesOthersDead = true;
  lease.isRecovering = false;
  database.uptimeS = 7;
  await pass(10_000);
  expect(await passed(watch.fenceIfDead(own, "z"))).toBe(false);
  expect(gone).toEqual([]);
  database.uptimeS = 8;
  await pass(2_000);
  expect([gone, [...database.leases.keys()]]).toEqual([["z"], ["m"]]);
});

test("a look that fails, at its beginning or while it cleans up, is followed by the next one", async () => {
  const { database, gone } = begin();
  for (const failing of [/^SELECT boot, CAST/, /^DELETE FROM commit_log/]) {
    database.leases.set("z", { expires: "1", expired: false });
    database.failing = failing;
    await pass(11_000);
    database.failing = null;
    await pass(1_000);
    database.leases.delete("z");
    await pass(1_000);
    expect(gone.splice(0)).toEqual(["z"]);
  }
});

test("one whose rows are held holds up nobody else, and is tried again", async () => {
  const { database, gone } = begin();
  for (const boot of ["y", "z"]) database.leases.set(boot, { expires: "1", expired: true });
  database.held.add("y");
  await pass(6_000);
  expect(gone).toEqual(["z"]);
  database.held.clear();
  await pass(2_000);
  expect(gone).toEqual(["z", "y"]);
});

test("who is asked for has ended where it is gone, has no connection or its lease is over; then it is told of", async () => {
  const { database, own, gone, watch } = begin();
  expect(await passed(watch.fenceIfDead(own, "nobody"))).toBe(true);
  for (const boot of ["v", "w"]) database.leases.set(boot, { expires: "1", expired: false });
  database.connected.add("v");
  expect([await passed(watch.fenceIfDead(own, "v")), await passed(watch.fenceIfDead(own, "w"))]).toEqual([false, true]);
  expect([gone, [...watch.otherBoots]]).toEqual([["w"], ["v"]]);
  // Its connections stand, and lead nowhere.
  database.leases.set("v", { expires: "1", expired: true });
  database.held.add("v");
  await pass(3_000);
  database.held.clear();
  expect([await passed(watch.fenceIfDead(own, "v")), gone]).toEqual([true, ["w", "v"]]);
});

test("a process has ended where it has no connection twice; its end may be seen a moment later", async () => {
  const { database, own, gone, watch } = begin();
  const check = async (boot: string, ms: number, change: () => void) => {
    database.leases.set(boot, { expires: "1", expired: false });
    const found = watch.fenceIfDead(own, boot);
    await pass(ms);
    change();
    return passed(found);
  };
  expect(await check("back", 50, () => database.connected.add("back"))).toBe(false);
  database.connected.add("ended");
  expect(await check("ended", 50, () => database.connected.delete("ended"))).toBe(true);
  database.connected.add("lived");
  expect(await check("lived", 200, () => database.connected.delete("lived"))).toBe(false);
  expect(gone).toEqual(["ended"]);
});

test("who renews its lease at the last moment is there still", async () => {
  const { database, own, gone, watch } = begin();
  database.leases.set("z", { expires: "1", expired: true });
  database.connected.add("z");
  database.held.add("z");
  await pass(5_000);
  // Since the last look; the database's clock is set.
  database.leases.set("z", { expires: "2", expired: true });
  expect(await passed(watch.fenceIfDead(own, "z"))).toBe(false);
  await pass(3_000);
  database.held.clear();
  database.onBury = (boot) => database.leases.set(boot, { expires: "3", expired: false });
  expect([await passed(watch.fenceIfDead(own, "z")), gone]).toEqual([false, []]);
  expect(database.leases.has("z")).toBe(true);
  // At a look of its own.
  database.leases.set("z", { expires: "4", expired: true });
  await pass(5_000);
  expect([gone, database.leases.has("z")]).toEqual([[], true]);
});

test("who is asked for has ended too where another instance was faster", async () => {
  const { database, own, gone, watch } = begin();
  database.leases.set("z", { expires: "1", expired: false });
  database.onBury = (boot) => database.leases.delete(boot);
  expect([await passed(watch.fenceIfDead(own, "z")), gone]).toEqual([true, ["z"]]);
});

test("it looks once a second, as the last boot that it was started as; stopped, it does not", async () => {
  const { database, watch, lease } = begin();
  await pass(10_100);
  expect(database.looks).toBe(10);
  const other = database.boot("n");
  database.onLook = () => {
    database.onLook = () => undefined;
    watch.stop();
    watch.start(other, lease as Lease);
  };
  await pass(10_000);
  expect(database.looks).toBe(20);
  watch.stop();
  await pass(5_000);
  expect(database.looks).toBe(20);
  watch.start(other, lease as Lease);
  database.onLook = () => watch.stop();
  await pass(5_000);
  expect(database.looks).toBe(21);
});

test("looks that take half a second follow each other at the same pace", async () => {
  const { database } = begin();
  // Which cleans up.
  database.leases.set("a", { expires: "1", expired: false });
  database.answersAfterMs = 500;
  await pass(10_600);
  expect(database.looks).toBe(10);
});

test("the first of the instances cleans up, every ten seconds", async () => {
  const { database } = begin();
  database.leases.set("z", { expires: "1", expired: false });
  await pass(21_500);
  expect(database.cleaned).toBe(3);
  database.leases.set("a", { expires: "1", expired: false });
  await pass(30_000);
  expect(database.cleaned).toBe(3);
});
