// Starting on a database: the schema is made once by however many start together, and what is wrong is told in one line.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { DatabaseError } from "../../src/db/mysql-connection.ts";
import { isMariadb, startErrorOf, withPassword } from "../../src/db/mysql-start.ts";
import { parseMysqlUrl } from "../../src/db/mysql-url.ts";
import { StartError } from "../../src/start-error.ts";
import { startForwarder } from "../forwarder.ts";
import { CHAT_SERVER, freePort, runProgram, startAs, temporaryFolder } from "../harness.ts";
import { databaseOf, type RunningMariadb, startMariadb } from "../services.ts";
import { lines, openShared, through } from "./mysql-shared.ts";

let mariadb: RunningMariadb;
beforeAll(async () => {
  mariadb = await startMariadb();
}, 30_000);
afterAll(() => mariadb.stop());

const failure = async (url: string): Promise<string> => {
  const error = await openShared(url).then(
    (store) => store.close().then(() => null),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(StartError);
  const { message } = error as StartError;
  expect(message).not.toContain("\n");
  for (const secret of ["se:cr@t", "se%3Acr", "hunter2", "stranger:stranger"]) expect(message).not.toContain(secret);
  return message;
};

const changed = (url: string, change: (target: URL) => void): string => {
  const target = new URL(url);
  change(target);
  return target.href;
};

test("ten instances started together on an empty database all come up", async () => {
  const url = await mariadb.database();
  const stores = await Promise.all(Array.from({ length: 10 }, () => openShared(url, { connections: 2 })));
  const boots = new Set(stores.map(({ boot }) => boot));
  expect(boots.size).toBe(10);
  expect(await mariadb.admin(`SELECT boot FROM ${databaseOf(url)}.instance`)).toHaveLength(10);
  const ids = await Promise.all(stores.map((store, i) => store.createUser(`user-${i}`, "hash")));
  expect(new Set(ids).size).toBe(10);
  const settings = await Promise.all(stores.map((store, i) => store.setting("token_secret", `secret-${i}`)));
  expect(new Set(settings).size).toBe(1);
  await Promise.all(stores.map((store) => store.close()));
  const versions = await mariadb.admin(`SELECT version FROM ${databaseOf(url)}.schema_version`);
  expect(versions.map(({ version }) => version)).toEqual(versions.map((_, i) => i + 1));
  expect(versions.length).toBeGreaterThan(1);
});

test("a migration that was cut off is done again; one of a newer program is left alone", async () => {
  const url = await mariadb.database();
  const name = databaseOf(url);
  await (await openShared(url)).close();
  await mariadb.admin(`USE ${name}; DELETE FROM schema_version; DROP TABLE lane, commit_log`);
  const store = await openShared(url);
  expect(await store.createUser("ann", "hash")).toBe(1);
  await store.close();
  await mariadb.admin(`INSERT INTO ${name}.schema_version SELECT MAX(version) + 1 FROM ${name}.schema_version`);
  expect(await failure(url)).toMatch(/is used by a newer ChatServer \(schema \d+\)/);
});

test("another program's database is refused, and one that a store has not been wholly copied to", async () => {
  const url = await mariadb.database();
  await mariadb.admin(`USE ${databaseOf(url)}; CREATE TABLE user (id INT); CREATE TABLE friend (id INT)`);
  expect(await failure(url)).toContain("is another program's database: give --mysql an empty one");
  await mariadb.admin(`USE ${databaseOf(url)}; CREATE TABLE unfinished_copy (id INT)`);
  expect(await failure(url)).toContain("holds an incomplete copy: finish it first");
});

test("what is wrong with the address, the account or the server is one line that says what to do", async () => {
  const port = freePort();
  expect(await failure(through(mariadb.url, port))).toMatch(
    /127\.0\.0\.1:\d+\/chat does not answer .*check host, port/,
  );
  expect(await failure(changed(mariadb.url, (url) => (url.password = "hunter2")))).toContain(
    "refuses user chat: check user and password",
  );
  expect(await failure(changed(mariadb.url, (url) => (url.pathname = "/chat_missing")))).toContain(
    "there is no database chat_missing: CREATE DATABASE `chat_missing`",
  );
  const stranger = `mysql://stranger:stranger@127.0.0.1:${mariadb.port}/chat`;
  expect(await failure(stranger)).toContain("GRANT ALL ON `chat`.* TO stranger");
  expect(await failure("mysql://user:hunter2@no-such-host.invalid/chat")).toContain("no-such-host.invalid");
}, 30_000);

/** The address of a new database, for an account that may have `connections`. */
async function limited(connections: number): Promise<string> {
  const url = changed(await mariadb.database(), (target) => (target.username = "few"));
  const password = decodeURIComponent(new URL(url).password);
  const account = `few IDENTIFIED BY '${password}' WITH MAX_USER_CONNECTIONS ${connections}`;
  await mariadb.admin(`CREATE OR REPLACE USER ${account}; GRANT ALL ON \`chat%\`.* TO few`);
  return url;
}

test("an account with fewer connections than the lanes and the lease need is told at the start", async () => {
  for (const few of [2, 3, 4])
    expect(await failure(await limited(few))).toContain(
      "has no free connection: raise its max_connections, or the account's",
    );
}, 30_000);

test("where one connection less would be too few, everything is served", async () => {
  const store = await openShared(await limited(5));
  const ids = await Promise.all(Array.from({ length: 60 }, (_, i) => store.createUser(`user-${i}`, "hash")));
  expect(new Set(ids).size).toBe(60);
  expect(await Promise.all(ids.map((id) => store.friendsOf(id)))).toEqual(ids.map(() => []));
  await store.close();
});

test("a server that takes connections and says nothing is given up", async () => {
  const forwarder = await startForwarder(mariadb.port);
  forwarder.swallow();
  expect(await failure(through(mariadb.url, forwarder.port))).toContain("does not answer");
  forwarder.stop();
}, 20_000);

test("the password can come from a file", async () => {
  const file = join(temporaryFolder(), "password");
  writeFileSync(file, `${decodeURIComponent(new URL(mariadb.url).password)}\n`);
  const url = await mariadb.database();
  const without = parseMysqlUrl(changed(url, (target) => (target.password = "")))!;
  await (await openShared(url, { target: withPassword(without, file) })).close();
  const missing = () => withPassword(without, "/no/such/file");
  expect(missing).toThrow(new StartError("the password file /no/such/file cannot be read (ENOENT)"));
});

const KEYS = resolve(import.meta.dir, "../integration/tls");
const startSecure = (name: string) =>
  startMariadb([`--ssl-cert=${join(KEYS, name)}.pem`, `--ssl-key=${join(KEYS, name)}.key.pem`]);
const runTrusting = (name: string) => ({
  env: { HOME: temporaryFolder(), NODE_EXTRA_CA_CERTS: join(KEYS, `${name}.pem`) },
});

test("what keeps TLS from coming about is told; a certificate of one's own authority is trusted where it is named", async () => {
  const secure = await startSecure("address");
  await secure.admin("ALTER USER chat REQUIRE SSL");
  expect(await failure(`${mariadb.url}?tls=yes`)).toContain("offers no TLS");
  expect(await failure(secure.url)).toContain("and whether TLS is required (?tls=yes)");
  const url = `${secure.url}?tls=yes`;
  expect(await failure(url)).toMatch(
    /^TLS with \S+ fails \(self.signed certificate\): its certificate must .* NODE_EXTRA_CA_CERTS=FILE$/,
  );
  const server = await startAs([CHAT_SERVER, "0", "--host", "127.0.0.1", "--mysql", url], runTrusting("address"));
  expect(await server.stop()).toBe(0);
  await secure.stop();
  const required = new DatabaseError("ER_SECURE_TRANSPORT_REQUIRED", 3159, "HY000", "");
  expect(startErrorOf(required, parseMysqlUrl(secure.url)!).message).toContain(
    "requires TLS: append ?tls=yes to --mysql",
  );
}, 60_000);

test("a trusted certificate that names another server is no proof of the database's", async () => {
  const secure = await startSecure("first");
  const { code, errors } = await runProgram(
    [CHAT_SERVER, "0", "--mysql", `${secure.url}?tls=yes`],
    runTrusting("first"),
  );
  expect([code, errors]).toEqual([
    1,
    expect.stringMatching(/^ChatServer: TLS with .* its certificate must name 127.0.0.1,.*\n$/),
  ]);
  await secure.stop();
}, 60_000);

test("servers that are too old are refused, by their version", () => {
  for (const version of ["5.7.44-log", "10.5.29-MariaDB", "5.5.5-10.3.39-MariaDB-0ubuntu0.20.04.2"])
    expect(() => isMariadb(version)).toThrow(/MySQL 8\.0, MariaDB 10\.6 or a newer version is needed/);
  for (const version of ["8.0.36", "8.4.2", "9.1.0-commercial"]) expect(isMariadb(version)).toBe(false);
  for (const version of ["10.6.18-MariaDB", "10.11.19-MariaDB-0+deb12u1", "5.5.5-11.4.2-MariaDB"])
    expect(isMariadb(version)).toBe(true);
});

test("a server that may lose what it has committed is warned of", async () => {
  const url = await mariadb.database();
  lines.length = 0;
  await (await openShared(url)).close();
  expect(lines).toEqual([]);
  await mariadb.admin("SET GLOBAL innodb_flush_log_at_trx_commit = 2");
  await (await openShared(url)).close();
  await mariadb.admin("SET GLOBAL innodb_flush_log_at_trx_commit = 1");
  expect(lines).toEqual([expect.stringContaining("innodb_flush_log_at_trx_commit is 2, set it to 1")]);
});
