// `ChatServer import` of what does not fit: names and texts that it changes, messages that are none, what it refuses.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { parseKept } from "../../src/tools/offline.ts";
import { startServer, temporaryFolder } from "../harness.ts";
import { databaseOf, type RunningMariadb, startMariadb } from "../services.ts";
import { direct, predecessor, runImport } from "./import-predecessor.ts";

let mariadb: RunningMariadb;
beforeAll(async () => {
  mariadb = await startMariadb();
}, 30_000);
afterAll(() => mariadb.stop());

test("ids of all sizes, none, and twice: every user is read once, and who has none of their own is told of", async () => {
  const schema = "CREATE TABLE User (id BIGINT, name VARCHAR(50), password VARCHAR(50))";
  const rows = [
    ...Array.from({ length: 300 }, (_, i) => `(NULL, 'nobody-${i}', 'secret1')`),
    ...Array.from({ length: 255 }, (_, i) => `(${i + 1}, 'user-${i + 1}', 'secret1')`),
    // Over the end of a page.
    ...["a", "b", "c"].map((name) => `(256, '${name}', 'secret1')`),
    "(9007199254740993, 'huge', 'secret1')",
  ];
  const from = await predecessor(mariadb, `INSERT INTO User VALUES ${rows.join(", ")}`, schema);
  const data = join(temporaryFolder(), "chat.db");
  const { output } = await runImport(["--from", from, "--data", data]);
  const db = new Database(data, { readonly: true });
  expect(db.query("SELECT min(id) AS low, max(id) AS high, count(*) AS count FROM user").get()).toEqual({
    low: 1,
    high: 256,
    count: 256,
  });
  db.close();
  expect(output).toMatch(/users left out, because their id is missing or not unique.*\n.*30[02] rows/);
}, 60_000);

test("names that the server does not take are changed, the lower id keeps a name, and it is told", async () => {
  const schema =
    "CREATE TABLE User (password VARCHAR(200), Name VARCHAR(300) COLLATE utf8mb4_bin, ID INT) CHARSET = utf8mb4";
  const long = "x".repeat(60);
  const from = await predecessor(
    mariadb,
    `INSERT INTO User VALUES ('secret1', 'e\u0301va', 7), ('secret1', '\u00e9va', 3), ('secret1', 'a\nb', 4),
     ('secret1', '', 5), ('secret1', '${long}', 8), ('secret1', '${long}', 9), ('123', 'Ann', 10), ('secret1', 'who', -1)`,
    schema,
  );
  const data = join(temporaryFolder(), "chat.db");
  const { output } = await runImport(["--from", from, "--data", data]);
  const db = new Database(data, { readonly: true });
  const x = (count: number) => "x".repeat(count);
  expect(db.query("SELECT id, name FROM user ORDER BY id").values()).toEqual([
    [3, "\u00e9va"],
    [4, "ab"],
    [5, "user5"],
    [7, "\u00e9va-7"],
    [8, x(50)],
    [9, `${x(48)}-9`],
    [10, "Ann"],
  ]);
  expect(db.query("SELECT count(*) AS count FROM user WHERE password LIKE '$argon2id$%'").get()).toEqual({ count: 7 });
  db.close();
  for (const line of [
    'user 7: "éva" -> "éva-7"',
    'user 4: "a\\nb" -> "ab"',
    "id -1",
    'user 10: "Ann"',
    "--new-passwords FILE",
    "tables skipped, because they are missing: 4\n  friend\n  allgroup\n  groupuser\n  offlinemessage",
  ])
    expect(output).toContain(line);
});

test("texts that went through a connection with another character set are brought back", async () => {
  const from = await predecessor(mariadb, "SELECT 1");
  // As a client does that sends UTF-8 and has said that it sends GBK.
  const bytes = Buffer.from("张三").toString("hex");
  await mariadb.admin(
    `USE ${databaseOf(from)}; INSERT INTO user (id, name, password) VALUES (1, CONVERT(X'${bytes}' USING gbk), 'secret1')`,
  );
  const data = join(temporaryFolder(), "chat.db");
  await runImport(["--from", from, "--data", data, "--from-charset", "gbk"]);
  const db = new Database(data, { readonly: true });
  expect(db.query("SELECT name FROM user").values()).toEqual([["张三"]]);
  db.close();
});

test("what is there is not overwritten, and what is wrong is told in one line", async () => {
  const from = await predecessor(mariadb, "INSERT INTO user (name, password) VALUES ('ann', 'secret1')");
  const folder = temporaryFolder();
  const full = join(folder, "full.db");
  const refusal = async (flags: string[], code = 1) => (await runImport(flags, code)).errors;
  await (await startServer(full)).stop();
  const before = readFileSync(full);
  expect(await refusal(["--from", from, "--data", full])).toContain("exists: give --data another path");
  expect(readFileSync(full)).toEqual(before);
  const used = await mariadb.database();
  await mariadb.admin(`CREATE TABLE ${databaseOf(used)}.other (id INT)`);
  expect(await refusal(["--from", from, "--to", used])).toContain("is not empty");
  expect(await refusal(["--from", from, "--to", "mysql://chat:hunter2@127.0.0.1:1/chat"])).toContain("does not answer");
  const file = join(folder, "chat.db");
  expect(await refusal(["--from", used, "--data", file])).toContain("has no table user");
  const strange = await predecessor(mariadb, "SELECT 1", "CREATE TABLE user (id INT, nick TEXT)");
  expect(await refusal(["--from", strange, "--data", file])).toContain("has no column name");
  expect(await refusal(["--from", "mysql://chat:hunter2@127.0.0.1:1/chat", "--data", file])).toContain(
    "does not answer",
  );
  expect(await refusal(["--from", `mysql://chat:hunter2@127.0.0.1:${mariadb.port}/chat`, "--data", file])).toContain(
    "password of --from",
  );
  expect(await refusal(["--from", from, "--from-charset", "klingon", "--data", file])).toContain("klingon");
  expect(existsSync(file)).toBe(false);
  writeFileSync(join(folder, "passwords"), "");
  const flags = ["--from", from, "--data", file, "--new-passwords", join(folder, "passwords")];
  expect(await refusal(flags)).toContain("--new-passwords: ");
  expect(await refusal(["--data", file], 2)).toContain("--from: give mysql://");
  expect(await refusal(["--from", from, "--to", used, "--data", file], 2)).toContain("cannot be combined with --to");
  // What an import that was killed has left does not hold the next one up.
  mkdirSync(`${file}.importing`);
  writeFileSync(join(`${file}.importing`, "chat.db"), "half");
  await runImport(["--from", from, "--data", file]);
  expect(await refusal(["--from", from, "--data", file])).toContain("exists");
  // The last changes of a file that was moved away without them.
  rmSync(file);
  writeFileSync(`${file}-wal`, "changes");
  const { output } = await runImport(["--from", from, "--data", file]);
  const aside = / renamed to (\S+);/.exec(output)![1]!;
  expect(readFileSync(aside).toString()).toBe("changes");
});

test("an import goes where a link leads, also to another file system", async () => {
  const from = await predecessor(mariadb, "INSERT INTO user (name, password) VALUES ('ann', 'secret1')");
  const link = join(temporaryFolder(), "chat.db");
  const elsewhere = mkdtempSync("/dev/shm/chatserver-");
  try {
    symlinkSync(join(elsewhere, "real.db"), link);
    await runImport(["--from", from, "--data", link]);
    expect(readdirSync(elsewhere).sort()).toEqual(["real.db", "real.db.lock"]);
    const db = new Database(join(elsewhere, "real.db"), { readonly: true });
    expect(db.query("SELECT name FROM user").values()).toEqual([["ann"]]);
    db.close();
  } finally {
    rmSync(elsewhere, { recursive: true });
  }
});

test("kept messages are read as they were sent, and nothing else is taken for one", () => {
  const ts = new Date(2024, 1, 22, 0, 43, 59).getTime();
  expect(parseKept(JSON.stringify(direct(1, 2, "hi")), 5)).toEqual({
    kind: 1004,
    sender: 1,
    group: null,
    ts,
    body: "hi",
  });
  expect(parseKept('{"msgId":1008,"fromid":3,"id":4,"groupid":2,"msg":"\\ud800"}', 5)).toEqual({
    kind: 1008,
    sender: 3,
    group: 2,
    ts: 5,
    body: "\ufffd",
  });
  expect(parseKept('{"msgid":1005,"id":4,"friendid":2}', 5)).toMatchObject({ kind: 1005, body: '{"msg":""}' });
  for (const text of [
    "",
    "null",
    "7",
    "{}",
    '{"msgId":1004,"id":1}',
    '{"msgId":1004,"id":"1","msg":"x"}',
    '{"msgId":1004,"id":0,"msg":"x"}',
    '{"msgId":1006,"id":1,"msg":"x"}',
    '{"msgId":1008,"id":1,"msg":"x"}',
    '{"msgId":1004,"id":1,"msg":7}',
  ])
    expect([text, parseKept(text, 5)]).toEqual([text, null]);
});
