// The database is away for much longer than the leases last: killed, hanging, black-holed. All clients stay connected, senders
// are told 19 in time, and when it is back everything goes on. One instance alone without it is taken over.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { directConv, Errno, MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { type Forwarder, startForwarder } from "../forwarder.ts";
import { type RunningServer, until } from "../harness.ts";
import { databaseOf } from "../services.ts";
import { login, register, type User, type Wire } from "../wire.ts";
import { startInstance, untilSettled } from "./cluster-crowd.ts";

const STORE_TIMEOUT_S = 2;
/** With what a loaded machine adds. */
const ANSWERED_MS = STORE_TIMEOUT_S * 1_000 + 1_500;
const OUTAGE_MS = 11_000;
/** From the database's return to the first acknowledgement. */
const BACK_MS = 5_000;
/** A lease, the look that finds it expired, and what a loaded machine adds. */
const TAKEN_OVER_MS = 6_000 + 1_000 + 3_000;

let cluster: RunningCluster;
/** Between each instance and the database. */
let links: Forwarder[];
let instances: RunningServer[];

beforeAll(async () => {
  cluster = await startCluster();
  const { port } = cluster.mariadb;
  links = await Promise.all([startForwarder(port), startForwarder(port)]);
  instances = await Promise.all(
    links.map((link) =>
      startInstance(
        cluster.url.replace(/:\d+\//, `:${link.port}/`),
        [cluster.redis!.url],
        ["--store-timeout", String(STORE_TIMEOUT_S)],
      ),
    ),
  );
  await untilSettled(cluster.mariadb);
}, 40_000);
afterAll(async () => {
  await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  for (const link of links) link.stop();
  await cluster.stop();
});

const sql = (text: string) => cluster.mariadb.admin(`USE ${databaseOf(cluster.url)}; ${text}`);
const boots = async () => (await sql("SELECT boot FROM instance ORDER BY boot")).map(({ boot }) => boot);

/** Two users, one on each instance, who list each other and write to each other without a pause. */
class Talk {
  readonly told: { errno: number; at: number; tookMs: number }[] = [];
  readonly acked: Map<string, number>[] = [new Map(), new Map()];
  private going = true;
  private readonly work: Promise<unknown>;

  private constructor(
    readonly users: User[],
    readonly wires: Wire[],
  ) {
    this.work = Promise.all([this.write(0), this.write(1)]);
  }

  static async begin(): Promise<Talk> {
    const users = await Promise.all(instances.map(({ port }) => register(port)));
    const wires = await Promise.all(users.map((user, i) => login(instances[i]!.port, user)));
    for (const [i, wire] of wires.entries()) await wire.ask({ msgId: MsgId.addFriend, friendId: users[1 - i]!.id });
    return new Talk(users, wires);
  }

  get ackedCount(): number {
    return this.acked[0]!.size + this.acked[1]!.size;
  }

  async advance(more: number): Promise<void> {
    const goal = this.acked.map(({ size }) => size + more);
    await until(() => this.acked.every(({ size }, i) => size >= goal[i]!), `${more} more messages of each`, 20_000);
  }

  async end(): Promise<void> {
    this.going = false;
    await this.work;
  }

  private async write(i: number): Promise<void> {
    while (this.going) {
      const mid = `${i}:${this.acked[i]!.size}`;
      const startedAt = performance.now();
      const { errno, seq } = await this.wires[i]!.ask({
        msgId: MsgId.chat,
        toid: this.users[1 - i]!.id,
        msg: mid,
        mid,
      });
      const at = performance.now();
      this.told.push({ errno: errno as number, at, tookMs: at - startedAt });
      if (errno === 0) this.acked[i]!.set(mid, seq as number);
      else await Bun.sleep(50);
    }
  }

  /** What was acknowledged is stored once, and has arrived once, in order. */
  async check(): Promise<void> {
    const [[a, b], [wireA, wireB]] = [this.users, this.wires] as [[User, User], [Wire, Wire]];
    const lo = Math.min(a.id, b.id);
    const hi = Math.max(a.id, b.id);
    const rows = await sql(
      `SELECT m.seq, CONVERT(m.mid USING utf8mb4) AS mid FROM message m JOIN conversation c ON c.id = m.conversation
       WHERE c.kind = 0 AND c.lo = ${lo} AND c.hi = ${hi} AND m.kind = ${MsgId.chat} ORDER BY m.seq`,
    );
    const acked = new Map(this.acked.flatMap((each) => [...each]));
    expect(new Map(rows.map(({ mid, seq }) => [mid as string, seq as number]))).toEqual(acked);
    for (const [i, wire] of [wireA, wireB].entries()) {
      const due = [...this.acked[1 - i]!.values()].sort((p, q) => p - q);
      const pushed = () =>
        wire.received.filter(
          ({ msgId, conv, ack }) => msgId === MsgId.chat && ack === undefined && conv === directConv(lo, hi),
        );
      await until(() => pushed().length >= due.length, "everything arrives", 10_000);
      await wire.settle();
      expect(pushed().map(({ seq }) => seq)).toEqual(due);
    }
  }
}

const outages: [name: string, begin: () => unknown, end: () => unknown][] = [
  ["is killed and started again", () => cluster.mariadb.kill(), () => cluster.mariadb.restart()],
  ["hangs", () => cluster.mariadb.pause(), () => cluster.mariadb.resume()],
  [
    "is black-holed",
    () => {
      for (const link of links) link.swallow();
    },
    () => {
      for (const link of links) link.heal();
    },
  ],
];

for (const [name, begin, end] of outages)
  test(`the database ${name}, away for longer than the leases last: nobody is disconnected`, async () => {
    const talk = await Talk.begin();
    const [user] = talk.users as [User];
    await talk.advance(20);
    for (const wire of talk.wires) await wire.settle();
    const presences = () => talk.wires.flatMap((wire) => wire.received.filter(({ msgId }) => msgId === MsgId.presence));
    const [before, seen] = [await boots(), presences().length];

    await begin();
    const goneAt = performance.now();
    const quiet = await login(instances[0]!.port, user, { device: "quiet" }).catch((error: Error) => error.message);
    expect(quiet).toContain(`"errno":${Errno.unavailable}`);
    // It asks the database for more than one thing: the positions of the user's other device may have to be saved first.
    expect(performance.now() - goneAt).toBeLessThan(2 * STORE_TIMEOUT_S * 1_000 + ANSWERED_MS);
    await until(() => performance.now() - goneAt > OUTAGE_MS, "the outage is over", OUTAGE_MS + 1_000);
    const acked = talk.ackedCount;
    // By now the leases are too old: what needs no database is answered, the rest refused at once.
    const lurker = await Promise.all(
      instances.map(async ({ port }) => {
        const startedAt = performance.now();
        const refused = await login(port, user, { device: "quiet" }).catch((error: Error) => error.message);
        expect(refused).toContain(`"errno":${Errno.unavailable}`);
        return performance.now() - startedAt;
      }),
    );
    expect(Math.max(...lurker)).toBeLessThan(1_000);
    for (const wire of talk.wires) await wire.settle();

    await end();
    const backAt = performance.now();
    await until(() => talk.ackedCount > acked, "an acknowledgement", 20_000);
    expect(performance.now() - backAt).toBeLessThan(BACK_MS);
    await talk.advance(20);
    await talk.end();
    expect(Math.max(...talk.told.map(({ tookMs }) => tookMs))).toBeLessThan(ANSWERED_MS);
    expect([...new Set(talk.told.map(({ errno }) => errno))].sort()).toEqual([Errno.ok, Errno.unavailable]);
    await talk.check();
    expect(talk.wires.map(({ ended }) => ended)).toEqual([false, false]);
    expect(presences()).toHaveLength(seen);
    expect(await boots()).toEqual(before);
    for (const wire of talk.wires) wire.close();
  }, 60_000);

test("one instance alone has lost the database: its users log in elsewhere, and when it is back its sessions end", async () => {
  const [a, b] = instances as [RunningServer, RunningServer];
  const [ann, eve, bob] = [await register(a.port), await register(a.port), await register(b.port)];
  const [annOnA, eveOnA, bobOnB] = [await login(a.port, ann), await login(a.port, eve), await login(b.port, bob)];
  const write = (wire: Wire, msg: string) => wire.ask({ msgId: MsgId.chat, toid: ann.id, msg, mid: msg });
  expect((await write(bobOnB, "1")).errno).toBe(0);
  await annOnA.push(MsgId.chat);
  await untilSettled(cluster.mariadb);

  links[0]!.swallow();
  const cutAt = performance.now();
  expect((await write(bobOnB, "2")).errno).toBe(0);
  let annOnB: Wire | null = null;
  const entered = async () => {
    annOnB = await login(b.port, ann).catch((error: Error) => {
      expect(error.message).toContain(`"errno":${Errno.alreadyOnline}`);
      return null;
    });
    return annOnB !== null;
  };
  await until(entered, "Ann is logged in elsewhere", TAKEN_OVER_MS);
  expect(performance.now() - cutAt).toBeGreaterThan(2_000);
  const again = annOnB as unknown as Wire;
  expect((await write(bobOnB, "3")).errno).toBe(0);
  await again.next(({ msg }) => msg === "3");
  // Those who stay there are not ended, but nothing is done for them.
  await eveOnA.settle();
  expect((await write(eveOnA, "lost")).errno).toBe(Errno.unavailable);
  expect(annOnA.received.filter(({ msg }) => msg === "3")).toEqual([]);

  links[0]!.heal();
  for (const wire of [annOnA, eveOnA]) {
    await wire.whenEnded();
    expect(wire.received.filter(({ msgId }) => msgId === MsgId.notice)).toMatchObject([{ errno: Errno.shuttingDown }]);
  }
  const isBack = async () => {
    const wire = await login(a.port, eve).catch(() => null);
    return wire !== null && (await write(wire, "4")).errno === 0;
  };
  await until(isBack, "the instance serves again");
  await again.next(({ msg }) => msg === "4");
  const stored = await sql(`SELECT body FROM message WHERE sender IN (${bob.id}, ${eve.id}) ORDER BY ts, seq`);
  expect(stored.map(({ body }) => body)).toEqual(["1", "2", "3", "4"]);
}, 60_000);
