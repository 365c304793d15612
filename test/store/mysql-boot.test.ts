// Who is found dead, and how one is taken over: wholly or not at all; and no lock, transaction or connection is left behind.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { StoreError, type Tx } from "../../src/db/db.ts";
import { LogIds } from "../../src/db/log-ids.ts";
import { Boot } from "../../src/db/mysql-boot.ts";
import { cleanCommits } from "../../src/db/mysql-commits.ts";
import { MysqlConnection } from "../../src/db/mysql-connection.ts";
import { registerLink } from "../../src/db/mysql-links.ts";
import { Connector } from "../../src/db/mysql-pool.ts";
import { fence, isGone } from "../../src/db/mysql-survivor.ts";
import { parseMysqlUrl } from "../../src/db/mysql-url.ts";
import type { Appended } from "../../src/model/message.ts";
import { writers } from "../../src/model/plan.ts";
import { operations } from "../../src/model/store.ts";
import { ChatError, directConv, Errno } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import { type RunningMariadb, startMariadb, transactions } from "../services.ts";
import { lines, messages, openShared } from "./mysql-shared.ts";

const SETTLED_S = 8;
const REFUSAL = new ChatError(Errno.forbidden, "no");
const refused = async (tx: Tx) => {
  await tx.run("UPDATE user SET token_epoch = 1");
  throw REFUSAL;
};
const log = { warn: (line: string) => lines.push(line), info: () => undefined };
const later = () => performance.now() + 20_000;

let mariadb: RunningMariadb;
/** The boot that takes others over. */
let own: Boot;
beforeAll(async () => {
  mariadb = await startMariadb();
  // For the tables: its own watch would take part.
  await (await openShared(mariadb.url)).close();
  own = new Boot({
    ...{ address: "", lanes: 2, connections: 1, storeTimeoutMs: 1_000 },
    connector: new Connector(parseMysqlUrl(mariadb.url)!, log),
    ids: new LogIds(),
    ...{ operations: { ...operations, refused }, writers },
    ...{ onFenced: () => undefined, onLate: () => undefined },
  });
  await own.begin(later());
}, 30_000);
afterAll(async () => {
  own.discard();
  await mariadb.stop();
});

let boots = 0;
/** A boot with one lane and one link, of a process that has ended; its lease ends in so many seconds. */
async function ended(leaseS: number): Promise<string> {
  const boot = `boot-${++boots}`;
  await mariadb.admin(`USE chat; INSERT INTO instance VALUES ('${boot}', '', UTC_TIMESTAMP(6) + INTERVAL ${leaseS} SECOND);
    INSERT INTO lane (boot, lane) VALUES ('${boot}', 1);
    INSERT INTO link (conn_id, boot, started, seen_by) SELECT 1000000 + ${boots}, '${boot}', MAX(started), MAX(seen_by) FROM link`);
  return boot;
}

async function stateOf(boot: string): Promise<unknown> {
  const count = (table: string, condition = "") =>
    `(SELECT COUNT(*) FROM chat.${table} WHERE boot = '${boot}'${condition}) AS ${table}`;
  const [state] = await mariadb.admin(
    `SELECT ${count("instance")}, ${count("lane", " AND fenced = 0")}, ${count("link")}`,
  );
  return state;
}
const ALIVE = { instance: 1, lane: 1, link: 1 };
const TAKEN_OVER = { instance: 0, lane: 0, link: 0 };

/** Throws where somebody holds the boot's row. */
const isFree = (boot: string) =>
  mariadb.admin(`SELECT boot FROM chat.instance WHERE boot = '${boot}' FOR UPDATE NOWAIT`);

test("soon after the database's start nobody is found dead: those who live may not be back yet", async () => {
  const boot = await ended(6);
  const found = await isGone(own, boot, later());
  const uptime = async () => Number((await mariadb.admin("SHOW STATUS LIKE 'Uptime'"))[0]!.Value);
  expect(found && (await uptime()) < SETTLED_S).toBe(false);
  await until(() => isGone(own, boot, later()), "it is found dead", 20_000);
  expect(await uptime()).toBeGreaterThanOrEqual(SETTLED_S);
}, 30_000);

test("a boot whose lease has not expired is taken over only by who knows that it is dead", async () => {
  const boot = await ended(60);
  expect(await fence(own, boot, false, later())).toBe(false);
  expect(await stateOf(boot)).toEqual(ALIVE);
  expect(await transactions(mariadb, "1")).toEqual([]);
  expect(await fence(own, boot, true, later())).toBe(true);
  expect(await stateOf(boot)).toEqual(TAKEN_OVER);
  // By one alone.
  expect(await fence(own, boot, true, later())).toBe(false);
});

test("one whose lease has expired is taken over wholly, or not at all and its row let go", async () => {
  const boot = await ended(-1);
  const holder = await mariadb.session("chat");
  await holder.run("START TRANSACTION");
  await holder.run(`SELECT batch FROM lane WHERE boot = '${boot}' FOR UPDATE`);
  await expect(fence(own, boot, false, later())).rejects.toThrow("LOCK_WAIT_TIMEOUT");
  await isFree(boot);
  expect(await stateOf(boot)).toEqual(ALIVE);
  holder.close();
  await until(() => fence(own, boot, false, later()), "it is taken over");
  expect(await stateOf(boot)).toEqual(TAKEN_OVER);
}, 20_000);

test("what all have read by now is deleted, with the lanes and connections of those that are gone", async () => {
  await mariadb.admin(`USE chat;
    INSERT INTO commit_log SELECT 'old', 1, seq, UTC_TIMESTAMP() - INTERVAL 11 MINUTE, '[]' FROM seq_1_to_2500;
    INSERT INTO commit_log VALUES ('young', 1, 1, UTC_TIMESTAMP() - INTERVAL 9 MINUTE, '[]');
    INSERT INTO lane (boot, lane, fenced) VALUES ('old', 1, 1), ('young', 1, 1), ('begins', 1, 0);
    INSERT INTO link (conn_id, boot) VALUES (2000000, 'old')`);
  const living = await ended(60);
  await cleanCommits(own, 5_000);
  const left = async (table: string) =>
    (
      await mariadb.admin(`SELECT DISTINCT CONVERT(boot USING utf8mb4) AS boot FROM chat.${table}
      WHERE boot IN ('old', 'young', 'begins', '${living}') ORDER BY boot DESC`)
    ).map(({ boot }) => boot);
  expect(await left("commit_log")).toEqual(["young"]);
  expect(await left("lane")).toEqual(["young", living, "begins"]);
  expect(await left("link")).toEqual([living]);
});

test("a connection is its new boot's, whatever was registered under its number before", async () => {
  const connection = await MysqlConnection.open(parseMysqlUrl(mariadb.url)!, 5_000);
  await mariadb.admin(`INSERT INTO chat.link VALUES (${connection.id}, 'before', 1000, 'nobody')`);
  await registerLink(connection, "now");
  // Of this run of the database, to a second or two.
  const same = `started - (SELECT MAX(started) FROM chat.link WHERE boot = '${own.name}') BETWEEN -2 AND 2 AND seen_by LIKE 'chat@%'`;
  const found = await mariadb.admin(`SELECT conn_id, ${same} AS same FROM chat.link WHERE boot = 'now'`);
  expect(found).toEqual([{ conn_id: connection.id, same: 1 }]);
  connection.destroy();
});

test("a packet of statements that fails half-way leaves no transaction open", async () => {
  const boot = await ended(60);
  const packet = ["START TRANSACTION", `DELETE FROM instance WHERE boot = '${boot}'`, "SELECT nothing"];
  await expect(own.query(packet, later())).rejects.toThrow("ER_BAD_FIELD");
  await isFree(boot);
  expect(await stateOf(boot)).toEqual(ALIVE);
});

test("an operation that is refused half-way leaves no transaction open", async () => {
  await expect(own.run("refused", [])).rejects.toEqual(REFUSAL);
  expect(await transactions(mariadb, "1")).toEqual([]);
});

test("where one lane's messages are not stored in time, those of the others are acknowledged", async () => {
  const ids: number[] = [];
  for (let i = 0; i < 6; i++) ids.push((await own.run("createUser", [`user-${i}`, "hash"])) as number);
  const pairs = ids.flatMap((a) => ids.filter((b) => b > a).map((b) => [a, b] as const));
  const batch = messages(pairs.map(([a, b]) => ({ conv: directConv(a, b), sender: a, text: "hi" })));
  await own.run("append", batch);
  const holder = await mariadb.session("chat");
  await holder.run("START TRANSACTION");
  await holder.run(`SELECT id FROM conversation WHERE kind = 0 AND lo = ${ids[0]} AND hi = ${ids[1]} FOR UPDATE`);
  const { seqs, refused } = (await own.run("append", batch)) as Appended;
  holder.close();
  expect(new Set(refused.map(([, errno]) => errno))).toEqual(new Set([Errno.unavailable]));
  const unknown = new Set(refused.map(([index]) => index));
  expect([unknown.has(0), unknown.size < pairs.length]).toEqual([true, true]);
  expect(seqs).toEqual(pairs.map((_, i) => (unknown.has(i) ? 0 : 2)));
});

test("starting over takes the old boot over, and leaves no connection behind where it fails or is too late", async () => {
  await own.query(["DO 0"], later());
  const connections = async () =>
    (await mariadb.admin("SELECT id FROM information_schema.processlist WHERE user = 'chat'")).map(({ id }) => id);
  const before = await connections();
  const othersAreGone = () =>
    until(async () => (await connections()).every((id) => before.includes(id)), "no connection is left");
  const store = await openShared(mariadb.url);
  const { boot } = store;
  const holder = await mariadb.session("chat");
  await holder.run("START TRANSACTION");
  await holder.run(`SELECT batch FROM lane WHERE boot = '${boot}' FOR UPDATE`);
  await expect(store.restart()).rejects.toBeInstanceOf(StoreError);
  await othersAreGone();
  holder.close();
  await store.restart();
  expect(store.boot).not.toBe(boot);
  expect(await stateOf(boot)).toEqual(TAKEN_OVER);
  const restarting = Promise.allSettled([store.restart()]);
  await store.close();
  expect(await restarting).toMatchObject([{ status: "rejected" }]);
  await expect(store.restart()).rejects.toBeInstanceOf(StoreError);
  await othersAreGone();
}, 20_000);
