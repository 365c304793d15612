// The database is there, and does not do what it is asked: its disk is full, somebody holds locks, its connections are used
// up. Senders are told 19 in time, clients stay connected, and when it is over everything goes on, stored once and in order.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { MysqlConnection } from "../../src/db/mysql-connection.ts";
import { parseMysqlUrl } from "../../src/db/mysql-url.ts";
import { directConv, Errno, MsgId } from "../../src/protocol.ts";
import { type RunningServer, until } from "../harness.ts";
import { type AdminSession, databaseOf, type RunningMariadb, startMariadb } from "../services.ts";
import { type SmallDisk, startSmallDisk, whyNoSmallDisk } from "../small-disk.ts";
import { login, register, type User, type Wire } from "../wire.ts";
import { startInstance } from "./cluster-crowd.ts";

const STORE_TIMEOUT_S = 1;
/** With what a loaded machine adds. */
const ANSWERED_MS = STORE_TIMEOUT_S * 1_000 + 1_500;
const BACK_MS = 5_000;
/** Refusals to wait for before the fault is lifted. */
const REFUSED = 6;
/** MariaDB takes no fewer. */
const MIN_CONNECTIONS = 10;
const TEXT = "x".repeat(4_000);

let disk: SmallDisk | undefined;
let mariadb: RunningMariadb;
let url: string;
let server: RunningServer;

beforeAll(async () => {
  if (whyNoSmallDisk() === null) disk = await startSmallDisk(512);
  mariadb = await startMariadb([], disk);
  url = await mariadb.database();
  server = await startInstance(url, [], ["--store-timeout", String(STORE_TIMEOUT_S)]);
}, 30_000);
afterAll(async () => {
  await server?.stop("SIGKILL");
  await mariadb?.stop();
  disk?.stop();
});

let session: AdminSession;
const hold =
  (...statements: string[]) =>
  async () => {
    session = await mariadb.session(databaseOf(url));
    for (const statement of statements) await session.run(statement);
  };
const letGo = () => session.close();

let others: MysqlConnection[] = [];

const faults: [what: string, begin: () => Promise<unknown>, end: () => unknown][] = [
  ["a lock on the conversations", hold("START TRANSACTION", "SELECT id FROM conversation FOR UPDATE"), letGo],
  ["a lock on the lanes", hold("START TRANSACTION", "SELECT batch FROM lane FOR UPDATE"), letGo],
  ["a table locked by somebody", hold("LOCK TABLES message WRITE"), letGo],
  ["a lock on all tables", hold("FLUSH TABLES WITH READ LOCK"), letGo],
  [
    "connections used up",
    async () => {
      const list = "SELECT id FROM information_schema.processlist WHERE user = 'chat'";
      const own = await mariadb.admin(list);
      others = await Promise.all(
        Array.from({ length: MIN_CONNECTIONS }, () => MysqlConnection.open(parseMysqlUrl(url)!, 5_000)),
      );
      await mariadb.admin(`SET GLOBAL max_connections = ${MIN_CONNECTIONS}`);
      // One that has ended meanwhile is as good.
      for (const { id } of own) await mariadb.admin(`KILL ${id}`).catch(() => undefined);
    },
    async () => {
      for (const each of others) each.destroy();
      await mariadb.admin("SET GLOBAL max_connections = 151");
    },
  ],
];
if (whyNoSmallDisk() === null) faults.push(["a full disk", () => disk!.fill(), () => disk!.free()]);

/** One user who writes to another one, message after message, each until it is stored. */
async function write(wire: Wire, to: User, isOver: () => boolean, told: { errno: number; tookMs: number }[]) {
  const seqs: number[] = [];
  while (!isOver()) {
    const mid = crypto.randomUUID();
    for (let errno: number = Errno.unavailable; errno !== Errno.ok && !isOver(); ) {
      const startedAt = performance.now();
      const answer = await wire.ask({ msgId: MsgId.chat, toid: to.id, msg: `${mid} ${TEXT}`, mid });
      errno = answer.errno as number;
      told.push({ errno, tookMs: performance.now() - startedAt });
      if (errno === Errno.ok) seqs.push(answer.seq as number);
    }
  }
  return seqs;
}

test.each(faults)(
  "%s: who writes is told in time, and then all goes on",
  async (_, begin, end) => {
    const [ann, bob, eve] = [await register(server.port), await register(server.port), await register(server.port)];
    const [onAnn, onBob, onEve] = await Promise.all([ann, bob, eve].map((user) => login(server.port, user)));
    const told: { errno: number; tookMs: number }[] = [];
    const refused = () => told.filter(({ errno }) => errno === Errno.unavailable).length;
    let over = false;
    const work = write(onAnn!, bob, () => over, told);
    await until(() => told.length > 20, "messages are stored");
    expect(refused()).toBe(0);

    await begin();
    await until(() => refused() >= REFUSED, "messages are refused", 30_000);
    // Whatever a request asks of the database, it is answered in time; what asks nothing, at once.
    for (const request of [
      { msgId: MsgId.friends },
      { msgId: MsgId.createGroup, groupname: "group" },
      { msgId: MsgId.heartbeat },
    ]) {
      const startedAt = performance.now();
      expect([Errno.ok, Errno.unavailable]).toContain((await onEve!.ask(request)).errno as 0);
      expect(performance.now() - startedAt).toBeLessThan(ANSWERED_MS);
    }
    await end();
    const backAt = performance.now();
    const stored = () => told.filter(({ errno }) => errno === Errno.ok).length;
    const before = stored();
    await until(() => stored() > before, "messages are stored again", 20_000);
    expect(performance.now() - backAt).toBeLessThan(BACK_MS);
    over = true;
    const seqs = await work;

    expect(Math.max(...told.map(({ tookMs }) => tookMs))).toBeLessThan(ANSWERED_MS);
    expect([...new Set(told.map(({ errno }) => errno))].sort((p, q) => p - q)).toEqual([Errno.ok, Errno.unavailable]);
    const conv = directConv(ann.id, bob.id);
    const got = () => onBob!.received.filter((each) => each.msgId === MsgId.chat && each.conv === conv);
    await until(() => got().length >= seqs.length, "everything arrives");
    await onBob!.settle();
    // Also the last one may be stored, that nobody waited for.
    expect(
      got()
        .map(({ seq }) => seq as number)
        .slice(0, seqs.length),
    ).toEqual(seqs);
    expect([onAnn!, onBob!, onEve!].map(({ ended }) => ended)).toEqual([false, false, false]);
    for (const wire of [onAnn!, onBob!, onEve!]) wire.close();
  },
  90_000,
);
