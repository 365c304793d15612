// Files that are no good database: one line says what to do, and what is not ours stays as it is.
import { Database } from "bun:sqlite";
import { beforeAll, expect, test } from "bun:test";
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Errno, MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, CHEAP_PASSWORDS, runProgram, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";

const newFile = () => join(temporaryFolder(), "chat.db");
/** Root may do what others may not. */
const asOthers = process.getuid!() === 0 ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] : [];

/** A good database with two users and some hundreds of messages. */
let good: string;
let ann: User;
let bob: User;
const MESSAGES = 600;

beforeAll(async () => {
  good = newFile();
  const server = await startServer(good);
  ann = await register(server.port);
  bob = await register(server.port);
  const sender = await login(server.port, ann);
  const requests = Array.from({ length: MESSAGES }, (_, i) => ({
    msgId: MsgId.chat,
    toid: bob.id,
    mid: `${i}`,
    msg: `${i}:${"x".repeat(1_000)}`,
  }));
  sender.send(...requests);
  await until(() => sender.received.length === MESSAGES, "all are stored");
  await server.stop();
});

function copy(): string {
  const file = newFile();
  copyFileSync(good, file);
  return file;
}

/** The start on `file` is refused with one line; returns that. */
async function refusal(file: string, prefix: string[] = []): Promise<string> {
  const command = [CHAT_SERVER, "0", "--host", "127.0.0.1", "--data", file];
  const { code, output, errors } = await runProgram([...prefix, ...command]);
  expect([code, output]).toEqual([1, ""]);
  expect(errors).toMatch(/^ChatServer: [^\n]+\n$/);
  return errors;
}

/** Overwrites a part of a file. */
function damage(file: string, from: number, to: number): void {
  writeFileSync(file, readFileSync(file).fill(0xa5, from, to));
}

test.each([
  ["a text", "not a database\n".repeat(500)],
  ["a short text", "hello"],
])("%s is not a database, and is left alone", async (_, text) => {
  const file = newFile();
  writeFileSync(file, text);
  expect(await refusal(file)).toContain(`${file} is not a database: give --data another path`);
  expect(readFileSync(file, "utf8")).toBe(text);
});

test.each([0, 1, 99])("another program's database, of version %d, is left alone", async (version) => {
  const file = newFile();
  const db = new Database(file);
  db.run("CREATE TABLE user (id INTEGER PRIMARY KEY, name TEXT)");
  db.run(`PRAGMA user_version = ${version}`);
  db.close();
  const before = readFileSync(file);
  expect(await refusal(file)).toContain(`${file} is another program's database: give --data another path`);
  expect(readFileSync(file)).toEqual(before);
});

test("a database of a newer schema is left to the newer program", async () => {
  const file = copy();
  const db = new Database(file);
  db.run("PRAGMA user_version = 4711");
  db.close();
  const before = readFileSync(file);
  expect(await refusal(file)).toContain(`${file} was written by a newer ChatServer (schema 4711): `);
  expect(readFileSync(file)).toEqual(before);
});

const size = () => statSync(good).size;
test.each([
  ["the first bytes", () => [0, 16], /is not a database: /],
  ["the header", () => [16, 100], /is (not a database|damaged): /],
  ["the schema", () => [100, 4096], /is damaged: .*\.recover", or restore a backup \(after removing .*-wal and/],
  ["everything behind the schema", () => [4096, size()], /is damaged: .*\.recover/],
] as [string, () => [number, number], RegExp][])("damage of %s is noticed at the start", async (_, range, says) => {
  const file = copy();
  damage(file, ...range());
  expect(await refusal(file)).toMatch(says);
});

test("a file that was cut off is noticed at the start", async () => {
  const file = newFile();
  writeFileSync(file, readFileSync(good).subarray(0, 40_000));
  expect(await refusal(file)).toContain("is damaged: ");
});

test("damage that is met later ends no more than the requests that meet it", async () => {
  const file = copy();
  const db = new Database(file);
  const pages = db.query("SELECT pageno FROM dbstat WHERE name = 'run' AND pagetype = 'leaf'").all() as {
    pageno: number;
  }[];
  const { page_size } = db.query("PRAGMA page_size").get() as { page_size: number };
  db.close();
  // Not the first and the last, which the start looks at.
  const damaged = pages.slice(2, -2);
  expect(damaged.length).toBeGreaterThan(5);
  for (const { pageno } of damaged) damage(file, (pageno - 1) * page_size, pageno * page_size);
  const server = await startServer(file);
  const wire = await Wire.connect(server.port);
  const answer = await wire.ask({ msgId: MsgId.login, id: bob.id, password: bob.password });
  expect([Errno.ok, Errno.unavailable]).toContain(answer.errno as 0);
  await until(() => /SQLITE_CORRUPT/.test(server.log()), "the log names it");
  const other = await login(server.port, await register(server.port));
  expect((await other.ask({ msgId: MsgId.chat, toid: ann.id, msg: "still here" })).errno).toBe(0);
  expect(await server.stop()).toBe(0);
});

test("a torn tail of the log that a crash left behind is passed over, and so is one that belongs to nothing", async () => {
  const file = newFile();
  const server = await startServer(file);
  const [carl, dora] = [await register(server.port), await register(server.port)];
  const sender = await login(server.port, carl);
  for (let i = 0; i < 20; i++) await sender.ask({ msgId: MsgId.chat, toid: dora.id, msg: `${i}` });
  await server.stop("SIGKILL");
  expect(statSync(`${file}-wal`).size).toBeGreaterThan(4096);
  appendFileSync(`${file}-wal`, crypto.getRandomValues(new Uint8Array(10_000)));
  const next = await startServer(file);
  expect((await login(next.port, dora)).answer.offline).toBe(20);
  await next.stop();

  const fresh = newFile();
  writeFileSync(`${fresh}-wal`, crypto.getRandomValues(new Uint8Array(100_000)));
  const other = await startServer(fresh);
  await register(other.port);
  expect(await other.stop()).toBe(0);
});

test("an empty file becomes a database, and so does a missing one with its folders, for its owner alone", async () => {
  const empty = newFile();
  writeFileSync(empty, "");
  const first = await startServer(empty);
  await register(first.port);
  await first.stop();

  const file = join(temporaryFolder(), "not", "there yet", "chat.db");
  const second = await startServer(file);
  await register(second.port);
  await second.stop();
  expect(statSync(join(file, "..")).mode & 0o777).toBe(0o700);
  for (const each of [file, `${file}.lock`, `${file}-wal`])
    if (existsSync(each)) expect(statSync(each).mode & 0o777).toBe(0o600);
});

test("what cannot be opened for writing is said so", async () => {
  const folder = temporaryFolder();
  expect(await refusal(folder)).toContain(`${folder} is not a file: give --data another path`);
  expect(await refusal("/dev/null")).toContain("/dev/null is not a file: ");
  expect(await refusal(join(good, "chat.db"))).toMatch(/cannot be opened for writing \(E.*: give --data another path/);

  const readOnly = copy();
  chmodSync(readOnly, 0o444);
  expect(await refusal(readOnly, asOthers)).toContain(`${readOnly} cannot be opened for writing`);

  const locked = join(temporaryFolder(), "locked");
  mkdirSync(locked, { mode: 0o500 });
  for (const file of [join(locked, "chat.db"), join(locked, "deeper", "chat.db")])
    expect(await refusal(file, asOthers)).toMatch(/cannot be opened for writing \(EACCES.*: give --data another path/);
});

test("a second server on the same file says who holds it, whatever path leads there", async () => {
  const file = copy();
  const link = newFile();
  symlinkSync(file, link);
  const server = await startServer(file);
  for (const path of [file, link]) {
    const says = await refusal(path);
    expect(says).toContain(`${path} is in use by process ${server.pid}: give this one another --data file`);
    expect(says).toContain("a cluster of several servers shares MySQL and Redis instead");
  }
  await register(server.port);
  // However the holder ends, the file is free.
  await server.stop("SIGKILL");
  const next = await startServer(link);
  await register(next.port);
  await next.stop();
});

test("nor does a second server start where the lock's file was removed, or by a hard link", async () => {
  const file = copy();
  const server = await startServer(file);
  rmSync(`${file}.lock`);
  const other = newFile();
  linkSync(file, other);
  for (const path of [file, other])
    expect(await refusal(path)).toContain(`${path} is in use by another server: give this one another --data file`);
  await server.stop("SIGKILL");
  const next = await startServer(file);
  await register(next.port);
  await next.stop();
});

test("a database that another program holds is waited for, and then said so", async () => {
  const file = copy();
  const db = new Database(file);
  db.run("PRAGMA locking_mode = EXCLUSIVE");
  db.run("BEGIN EXCLUSIVE");
  expect(await refusal(file)).toContain(`${file} is locked by another program: `);
  db.close();
  const server = await startServer(file, CHEAP_PASSWORDS);
  await server.stop();
});
