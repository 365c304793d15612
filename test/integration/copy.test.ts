// `ChatServer copy`: a store filled through the real server, moved to MariaDB and served from there; what is refused.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import {
  CHAT_SERVER,
  CHEAP_PASSWORDS,
  type RunningServer,
  runProgram,
  startAs,
  startServer,
  temporaryFolder,
  until,
} from "../harness.ts";
import { databaseOf, type RunningMariadb, startMariadb } from "../services.ts";
import { login, register } from "../wire.ts";
import { compare, copyOf, type FilledStore, fillStore, journalled, MESSAGES, refusal, succeed } from "./copy-store.ts";

let mariadb: RunningMariadb;
let store: FilledStore;

beforeAll(async () => {
  mariadb = await startMariadb();
  store = await fillStore();
}, 60_000);
afterAll(() => mariadb.stop());

const serve = (url: string): Promise<RunningServer> =>
  startAs([CHAT_SERVER, "0", "--host", "127.0.0.1", "--mysql", url, ...CHEAP_PASSWORDS]);

test("what an administrator is told, and that the journal is not empty", async () => {
  expect(journalled(store.file)).toBeGreaterThan(0);
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
  [["--from", "x", "--to", "hunter2"], "--to: the given value is not mysql://"],
  [["--from", "x", "--to", "mysql://u:hunter2@h/x?ssl=true"], "--to: the given value is not mysql://"],
  [["--from", "x", "--to", "none"], "--to: the given value is not mysql://"],
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

test("everything is there with its ids, and people go on as if nothing had happened", async () => {
  const { ann, bob, cid, groupId, token } = store;
  const url = await mariadb.database();
  expect(await succeed(store.file, url)).toMatch(/message compared: 12,00\d rows, checksum [0-9a-f]{8}, the same/);
  await compare(store.file, mariadb, url);
  expect(await refusal(store.file, url)).toContain("is not empty");
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
  const flags = ["--from", store.file, "--to", url.href, "--to-password-file", passwordFile];
  expect(await runProgram([CHAT_SERVER, "copy", ...flags], {}, 60_000)).toMatchObject({ code: 0 });
}, 60_000);

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
  copyFileSync(copyOf(store.file), newer);
  const changed = new Database(newer);
  changed.run("PRAGMA user_version = 99");
  changed.close();
  expect(await refusal(join(folder, "missing"), url)).toContain("does not exist");
  expect(await refusal(text, url)).toContain("is not a database");
  expect(await refusal(foreign, url)).toContain("is not a ChatServer's store");
  expect(await refusal(newer, url)).toContain("has schema 99");
  const server = await startServer(held);
  expect(await refusal(held, url)).toMatch(/is in use by process \d+: stop that server first/);
  await server.stop();
  const used = await mariadb.database();
  await mariadb.admin(`CREATE TABLE ${databaseOf(used)}.other (id INT)`);
  expect(await refusal(store.file, used)).toContain("is not empty");
  expect(await refusal(store.file, used.replace(/[^/]*$/, "chat_missing"))).toContain("CREATE DATABASE `chat_missing`");
  expect(await refusal(store.file, "mysql://chat:se%3Acr@127.0.0.1:1/chat")).toContain(
    "127.0.0.1:1/chat does not answer",
  );
  expect(await refusal(store.file, `mysql://chat:se%3Acr@127.0.0.1:${mariadb.port}/chat`)).toContain(
    "password of --to",
  );
  expect(await mariadb.admin(`SHOW TABLES FROM ${databaseOf(url)}`)).toEqual([]);
}, 60_000);
