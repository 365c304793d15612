// `ChatServer copy`: a store filled through the real server, moved to MariaDB while things break, and served from there.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import { startForwarder } from "../forwarder.ts";
import {
  CHAT_SERVER,
  CHEAP_PASSWORDS,
  type Ended,
  type RunningServer,
  runProgram,
  startAs,
  startServer,
  temporaryFolder,
  until,
} from "../harness.ts";
import { type RunningMariadb, startMariadb } from "../services.ts";
import { through } from "../store/mysql-shared.ts";
import { login, register, type User } from "../wire.ts";

const MESSAGES = 12_000;
/** What a copy that is to be interrupted has sent before: well within its messages. */
const HALF_BYTES = 300_000;

let mariadb: RunningMariadb;
/** A store as a killed server left it: with messages in the journal alone. */
let file: string;
let ann: User;
let bob: User;
let cid: User;
let groupId: number;
let token: string;

const copy = (to: string, from = file): Promise<Ended> =>
  runProgram([CHAT_SERVER, "copy", "--from", from, "--to", to], {}, 60_000);

async function succeed(to: string, from?: string): Promise<string> {
  const ended = await copy(to, from);
  expect(ended).toMatchObject({ code: 0, errors: "" });
  return ended.output;
}

/** The one line with which a copy is refused. */
async function refusal(to: string, from?: string): Promise<string> {
  const { code, errors, output } = await copy(to, from);
  expect(code).toBe(1);
  expect(errors).toMatch(/^ChatServer: [^\n]+\n$/);
  for (const secret of ["se:cr@t", "se%3Acr"]) expect(errors + output).not.toContain(secret);
  return errors;
}

const nameOf = (url: string): string => new URL(url).pathname.slice(1);
const serve = (url: string): Promise<RunningServer> =>
  startAs([CHAT_SERVER, "0", "--host", "127.0.0.1", "--mysql", url, ...CHEAP_PASSWORDS]);

beforeAll(async () => {
  file = join(temporaryFolder(), "chat.db");
  let server: RunningServer;
  [mariadb, server] = await Promise.all([startMariadb(), startServer(file)]);
  await register(server.port);
  [ann, bob, cid] = [await register(server.port), await register(server.port), await register(server.port)];
  const [onAnn, onBob] = [await login(server.port, ann), await login(server.port, bob, { device: "phone" })];
  token = onAnn.answer.token as string;
  await onAnn.ask({ msgId: MsgId.addFriend, friendId: bob.id, msg: "hi" });
  await onBob.push(MsgId.addFriend);
  groupId = (await onAnn.ask({ msgId: MsgId.createGroup, groupname: "Übung 😀", groupdesc: "d'esc\\" }))
    .groupid as number;
  await onBob.ask({ msgId: MsgId.joinGroup, groupid: groupId });
  for (let i = 0; i < MESSAGES; i++)
    onAnn.send({ msgId: MsgId.chat, toid: cid.id, msg: `number ${i}`, ...(i % 2 ? { mid: `m${i}` } : {}) });
  await onAnn.settle();
  // Out of all sessions, so that positions are stored.
  await onBob.ask({ msgId: MsgId.logout });
  await onAnn.ask({ msgId: MsgId.logout });
  const again = await login(server.port, ann, { device: "desk" });
  const special = "\u0000 ' \" \\ \u2028 😀 \u0301 %_?";
  expect((await again.ask({ msgId: MsgId.groupChat, groupid: groupId, msg: special, mid: special })).errno).toBe(0);
  await again.ask({ msgId: MsgId.chat, toid: bob.id, msg: "last words", mid: "last" });
  await server.stop("SIGKILL");
  // Where the machine was so slow that the server found the time to fold its journal.
  while (journalled() === 0) {
    server = await startServer(file);
    await (await login(server.port, ann, { device: "desk" })).ask({ msgId: MsgId.chat, toid: ann.id, msg: "note" });
    await server.stop("SIGKILL");
  }
}, 60_000);
afterAll(() => mariadb.stop());

test("what an administrator is told, and that the journal is not empty", async () => {
  expect(journalled()).toBeGreaterThan(0);
  const { output } = await runProgram([CHAT_SERVER, "--help"]);
  expect(output).toMatch(/^ {2}copy {2,}\S/m);
  expect(output).toMatch(/^ {2}import {2,}\S/m);
  const help = await runProgram([CHAT_SERVER, "copy", "--help"]);
  expect(help).toMatchObject({ code: 0, errors: "" });
  expect(help.output).toContain("--to-password-file");
});

test.each([
  [["--from", "x"], "--to"],
  [["--to", "mysql://a:hunter2@h/d"], "--from"],
  [["--from", "x", "--to", "hunter2"], "--to: what is given is not mysql://"],
  [["--from", "x", "--to", "none"], "--to: what is given is not mysql://"],
  [["--from", "x", "--from", "y", "--to", "mysql://a@h/d"], "--from: given more than once"],
  [["--too=hunter2"], "--too"],
  [["mysql://a:hunter2@h/d"], "every value of copy belongs to a flag"],
])("wrong flags %j are exit code 2 and one line", async (flags, told) => {
  const { code, errors, output } = await runProgram([CHAT_SERVER, "copy", ...flags]);
  expect([code, output]).toEqual([2, ""]);
  expect(errors).toMatch(/^ChatServer: [^\n]+\n$/);
  expect(errors).toContain(told);
  expect(errors).not.toContain("hunter2");
});

function journalled(): number {
  const db = new Database(copyOf(file), { readwrite: true });
  const [[count]] = db.query("SELECT count(*) FROM journal").values() as [[number]];
  db.close();
  return count;
}

/** A copy of a file that no process has open, with what is in its write-ahead log. */
function copyOf(original: string): string {
  const made = join(temporaryFolder(), "chat.db");
  for (const suffix of ["", "-wal"]) if (existsSync(original + suffix)) copyFileSync(original + suffix, made + suffix);
  return made;
}

/** Every table of the file but those that hold the log, and all columns that both databases have, as in the database. */
async function compare(url: string): Promise<void> {
  const db = new Database(copyOf(file), { readwrite: true });
  const tables = db
    .query("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'")
    .values()
    .map(([name]) => name as string)
    .filter((name) => !["journal", "run", "run_end", "mid", "mid_range"].includes(name));
  expect(tables.length).toBeGreaterThan(8);
  for (const table of tables) {
    const columns = (db.query(`SELECT name FROM pragma_table_info('${table}')`).values() as [string][])
      .map(([name]) => name)
      .filter((name) => name !== "boot" && !(table === "conversation" && name === "last_seq"));
    const there = (await mariadb.admin(
      `SELECT ${columns.map((name) => `\`${name}\``)} FROM \`${nameOf(url)}\`.\`${table}\``,
    )) as Record<string, unknown>[];
    const text = (row: Record<string, unknown>) => JSON.stringify(columns.map((name) => shown(row[name])));
    const here = db.query(`SELECT ${columns} FROM ${table}`).all() as Record<string, unknown>[];
    expect(here.map(text).sort()).toEqual(there.map(text).sort());
    if (table === "message") expect(here.length).toBeGreaterThan(MESSAGES);
  }
  db.close();
  const heads = `SELECT c.last_seq - COUNT(m.seq) AS gap FROM conversation c LEFT JOIN message m ON m.conversation = c.id`;
  const gaps = await mariadb.admin(`USE \`${nameOf(url)}\`; ${heads} GROUP BY c.id`);
  expect(gaps.every(({ gap }) => gap === 0)).toBe(true);
}
const shown = (value: unknown): unknown => (value instanceof Buffer ? value.toString() : value);

test("everything is there with its ids, and people go on as if nothing had happened", async () => {
  const url = await mariadb.database();
  expect(await succeed(url)).toMatch(/message compared: 12,00\d rows, checksum [0-9a-f]{8}, the same/);
  await compare(url);
  expect(await refusal(url)).toContain("is not empty");
  const server = await serve(url);
  // The old token, and the old password.
  const onAnn = await login(server.port, { ...ann, password: undefined as never }, { token });
  expect(onAnn.answer.friends).toEqual([{ id: bob.id, name: bob.name, state: "offline" }]);
  expect(onAnn.answer.groups).toMatchObject([{ id: groupId, groupname: "Übung 😀", groupdesc: "d'esc\\", count: 2 }]);
  const onBob = await login(server.port, bob, { device: "phone" });
  // The group message and the last words; nothing that he had been delivered before.
  expect(onBob.answer.offline).toBe(2);
  expect([(await onBob.push(MsgId.groupChat)).groupid, (await onBob.push(MsgId.chat)).msg]).toEqual([
    groupId,
    "last words",
  ]);
  const onCid = await login(server.port, cid);
  expect(onCid.answer.offline).toBe(MESSAGES);
  await until(() => onCid.received.length >= MESSAGES, "the whole backlog");
  expect(onCid.rest().map(({ seq, msg }) => [seq, msg])).toEqual(
    Array.from({ length: MESSAGES }, (_, i) => [i + 1, `number ${i}`]),
  );
  // A resend gets the old seq and reaches nobody; what is new goes on from there.
  expect(await onAnn.ask({ msgId: MsgId.chat, toid: cid.id, msg: "number 7", mid: "m7" })).toMatchObject({ seq: 8 });
  const last = await onAnn.ask({ msgId: MsgId.chat, toid: cid.id, msg: "new", mid: "new" });
  expect(last.seq).toBe(MESSAGES + 1);
  expect(await onCid.push(MsgId.chat)).toMatchObject({ msg: "new", seq: MESSAGES + 1 });
  expect((await register(server.port)).id).toBe(cid.id + 1);
  await server.stop();
}, 60_000);

test("a password can come from a file", async () => {
  const url = new URL(await mariadb.database());
  const passwordFile = join(temporaryFolder(), "password");
  writeFileSync(passwordFile, `${decodeURIComponent(url.password)}\n`);
  url.password = "";
  const flags = ["--from", file, "--to", url.href, "--to-password-file", passwordFile];
  expect(await runProgram([CHAT_SERVER, "copy", ...flags], {}, 60_000)).toMatchObject({ code: 0 });
}, 60_000);

describe("interrupted", () => {
  /** A half-done copy: stopped when its messages were under way. */
  async function interrupted(url: string, from = file): Promise<void> {
    const forwarder = await startForwarder(mariadb.port);
    let bytes = 0;
    forwarder.watch((data) => {
      bytes += data.length;
      if (bytes > HALF_BYTES) forwarder.swallow();
      return "pass";
    });
    const child = Bun.spawn([CHAT_SERVER, "copy", "--from", from, "--to", through(url, forwarder.port)], {
      stdout: "ignore",
      stderr: "ignore",
    });
    await until(() => bytes > HALF_BYTES, "the copy is half done");
    child.kill("SIGKILL");
    await child.exited;
    forwarder.stop();
    const [row] = await mariadb.admin(`SELECT COUNT(*) AS count FROM ${nameOf(url)}.message`);
    expect(row!.count).toBeGreaterThan(0);
    expect(row!.count).toBeLessThan(MESSAGES);
  }

  test("kill -9 in the middle: no server takes it, the same command ends it", async () => {
    const url = await mariadb.database();
    await interrupted(url);
    const refused = await runProgram([CHAT_SERVER, "0", "--mysql", url]);
    expect([refused.code, refused.errors]).toEqual([1, expect.stringContaining("holds a copy that is not complete")]);
    await succeed(url);
    await compare(url);
  }, 60_000);

  test("connections that are cut, also between a commit and its answer, are made again", async () => {
    const url = await mariadb.database();
    const forwarder = await startForwarder(mariadb.port);
    let packets = 0;
    let cuts = 0;
    forwarder.watch(() => {
      if (++packets % 23 !== 0 || cuts === 6) return "pass";
      cuts++;
      return "cut";
    });
    const output = await succeed(through(url, forwarder.port));
    forwarder.stop();
    expect(cuts).toBe(6);
    expect(output).toContain("trying again");
    await compare(url);
  }, 60_000);

  test("another store's copy is not gone on with, nor this one's after it was served again", async () => {
    const url = await mariadb.database();
    const own = copyOf(file);
    await interrupted(url, own);
    const other = join(temporaryFolder(), "chat.db");
    await (await startServer(other)).stop();
    expect(await refusal(url, other)).toContain("unfinished copy of another store");
    const server = await startServer(own);
    await login(server.port, ann);
    await server.stop();
    expect(await refusal(url, own)).toContain(`DROP DATABASE \`${nameOf(url)}\``);
  }, 60_000);

  for (const [what, damage] of [
    ["a changed text", "UPDATE message SET body = 'number X' WHERE conversation = 3 AND seq = 1"],
    ["a row that is gone", "DELETE FROM message WHERE conversation = 3 AND seq = 2"],
    ["a row too many", "INSERT INTO friend VALUES (999, 1000)"],
    ["another password", "UPDATE user SET password = CONCAT(password, 'x') WHERE id = 2"],
  ] as const)
    test(`${what} in the database is found`, async () => {
      const url = await mariadb.database();
      await interrupted(url);
      const [row] = await mariadb.admin(
        `USE ${nameOf(url)}; SELECT MIN(conversation) AS first FROM message GROUP BY conversation ORDER BY COUNT(*) DESC`,
      );
      await mariadb.admin(`USE ${nameOf(url)}; ${damage.replace("conversation = 3", `conversation = ${row!.first}`)}`);
      const told = await refusal(url);
      expect(told).toMatch(/table \w+ of \S+ is not what \S+ holds \(.*\): empty the database and copy again/);
      const refused = await runProgram([CHAT_SERVER, "0", "--mysql", url]);
      expect(refused.code).toBe(1);
    }, 60_000);
});

test("what cannot be copied, or not there, is told in one line", async () => {
  const url = await mariadb.database();
  const folder = temporaryFolder();
  const [text, foreign, newer, held] = ["text", "foreign", "newer", "held"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
    string,
  ];
  writeFileSync(text, "no database at all, ".repeat(100));
  const db = new Database(foreign);
  db.run("CREATE TABLE user (id INTEGER)");
  db.close();
  copyFileSync(copyOf(file), newer);
  const changed = new Database(newer);
  changed.run("PRAGMA user_version = 99");
  changed.close();
  expect(await refusal(url, join(folder, "missing"))).toContain("does not exist");
  expect(await refusal(url, text)).toContain("is not a database");
  expect(await refusal(url, foreign)).toContain("is not a ChatServer's store");
  expect(await refusal(url, newer)).toContain("has schema 99");
  const server = await startServer(held);
  expect(await refusal(url, held)).toMatch(/is in use by process \d+: stop that server first/);
  await server.stop();
  const used = await mariadb.database();
  await mariadb.admin(`CREATE TABLE ${nameOf(used)}.other (id INT)`);
  expect(await refusal(used)).toContain("is not empty");
  expect(await refusal(used.replace(/[^/]*$/, "chat_missing"))).toContain("CREATE DATABASE `chat_missing`");
  expect(await refusal("mysql://chat:se%3Acr@127.0.0.1:1/chat")).toContain("127.0.0.1:1/chat does not answer");
  expect(await refusal(`mysql://chat:se%3Acr@127.0.0.1:${mariadb.port}/chat`)).toContain("password of --to");
  expect(await mariadb.admin(`SHOW TABLES FROM ${nameOf(url)}`)).toEqual([]);
}, 60_000);
