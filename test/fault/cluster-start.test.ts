// What an instance of a cluster says when it cannot start: one line that names what is wrong and what to do, without a
// password; and ten of them that start together on an empty database.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { resolve } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, freePort, runProgram } from "../harness.ts";
import { databaseOf, type RunningMariadb, type RunningRedis, startMariadb, startRedis } from "../services.ts";
import { login, register } from "../wire.ts";
import { startInstance } from "./cluster-crowd.ts";

const SECRET = "hush-hush";

/** A certificate of its own, which names its address. */
const KEYS = resolve(import.meta.dir, "../integration/tls/address");
const tlsPort = freePort();
const TLS = ["--tls-port", `${tlsPort}`, "--tls-cert-file", `${KEYS}.pem`, "--tls-key-file", `${KEYS}.key.pem`];

let mariadb: RunningMariadb;
let redis: RunningRedis;
/** The only connection that it allows is taken. */
let full: RunningRedis;

beforeAll(async () => {
  [mariadb, redis, full] = await Promise.all([
    startMariadb(),
    startRedis(["--requirepass", "open-sesame", ...TLS, "--tls-auth-clients", "no"]),
    startRedis(),
  ]);
  const { promise, resolve: taken } = Promise.withResolvers<string>();
  const socket = { data: (_: unknown, answer: Buffer) => taken(answer.toString()) };
  (await Bun.connect({ hostname: "127.0.0.1", port: full.port, socket })).write("CONFIG SET maxclients 1\r\n");
  expect(await promise).toBe("+OK\r\n");
}, 30_000);
afterAll(() => Promise.all([mariadb?.stop(), redis?.stop(), full?.stop()]));

const mysqlAt = (port: number, user = "chat", database = "chat") =>
  `mysql://${user}:${SECRET}@127.0.0.1:${port}/${database}`;
const redisAt = (port: number, login = `:${SECRET}@`) => `redis://${login}127.0.0.1:${port}`;

interface Refusal {
  what: string;
  flags(): Promise<string[]> | string[];
  code: number;
  says: RegExp;
}

const refusals: Refusal[] = [
  {
    what: "no MySQL",
    flags: () => ["--mysql", mysqlAt(freePort())],
    code: 1,
    says: /^ChatServer: the database at 127\.0\.0\.1:\d+\/chat does not answer \(.*\): start it, or check host, port/,
  },
  {
    what: "a wrong password of MySQL",
    flags: () => ["--mysql", mysqlAt(mariadb.port)],
    code: 1,
    says: /^ChatServer: 127\.0\.0\.1:\d+\/chat refuses user chat: check user and password of --mysql, and whether TLS .*\n$/,
  },
  {
    what: "an unknown database",
    flags: () => ["--mysql", mariadb.url.replace(/\/chat$/, "/chatter")],
    code: 1,
    says: /^ChatServer: .*there is no database chatter: CREATE DATABASE `chatter`\n$/,
  },
  {
    what: "no Redis",
    flags: () => ["--mysql", mariadb.url, "--redis", redisAt(freePort())],
    code: 1,
    says: /^ChatServer: Redis at 127\.0\.0\.1:\d+ does not answer \(.*\): start it, or check --redis\n$/,
  },
  {
    what: "a wrong password of Redis",
    flags: () => ["--mysql", mariadb.url, "--redis", redisAt(redis.port)],
    code: 1,
    says: /^ChatServer: Redis at 127\.0\.0\.1:\d+ refuses the login \(.*\): check user and password of --redis\n$/,
  },
  {
    what: "a Redis that wants a password",
    flags: () => ["--mysql", mariadb.url, "--redis", redisAt(redis.port, "")],
    code: 1,
    says: /^ChatServer: Redis at 127\.0\.0\.1:\d+ refuses the login \(.*\): check user and password of --redis\n$/,
  },
  {
    what: "a Redis whose certificate is not trusted",
    flags: () => ["--mysql", mariadb.url, "--redis", `rediss://:${SECRET}@127.0.0.1:${tlsPort}`],
    code: 1,
    says: /^ChatServer: TLS with Redis at 127\.0\.0\.1:\d+ fails \(self.signed certificate\): its certificate must .*FILE\n$/,
  },
  {
    what: "no TLS where Redis expects it",
    flags: () => ["--mysql", mariadb.url, "--redis", `redis://:${SECRET}@127.0.0.1:${tlsPort}`],
    code: 1,
    says: /^ChatServer: Redis at 127\.0\.0\.1:\d+ ends the connection \(.*\): check --redis \(a port with TLS needs rediss:\/\/\), and .*\n$/,
  },
  {
    what: "TLS where Redis does not expect it",
    flags: () => ["--mysql", mariadb.url, "--redis", `rediss://:${SECRET}@127.0.0.1:${redis.port}`],
    code: 1,
    says: /^ChatServer: Redis at 127\.0\.0\.1:\d+ does not answer \(.*\): start it, or check --redis \(rediss:\/\/ is for a port with TLS\)\n$/,
  },
  {
    what: "a Redis without a free connection",
    flags: () => ["--mysql", mariadb.url, "--redis", full.url],
    code: 1,
    says: /^ChatServer: Redis at 127\.0\.0\.1:\d+ ends the connection \(.*\): .* whether Redis' maxclients is reached\n$/,
  },
  {
    what: "Redis without MySQL",
    flags: () => ["--redis", redisAt(redis.port)],
    code: 2,
    says: /^ChatServer: --redis: instances must share a database, give --mysql/,
  },
];

for (const { what, flags, code, says } of refusals)
  test(`${what}: one line, exit ${code}`, async () => {
    const ended = await runProgram([CHAT_SERVER, "0", "--host", "127.0.0.1", ...(await flags())], {}, 20_000);
    expect(ended.code).toBe(code);
    expect(ended.errors).toMatch(says);
    expect(ended.errors.indexOf("\n")).toBe(ended.errors.length - 1);
    for (const secret of [SECRET, "se:cr@t", "se%3Acr"]) expect(ended.errors + ended.output).not.toContain(secret);
  }, 30_000);

test("ten instances that start together on an empty database come up and serve as one", async () => {
  const url = await mariadb.database("chat_ten");
  const instances = await Promise.all(
    Array.from({ length: 10 }, () => startInstance(url, [redisAt(redis.port, ":open-sesame@")])),
  );
  const [first, last] = [instances[0]!, instances.at(-1)!];
  const [ann, bob] = [await register(first.port), await register(last.port)];
  const [onFirst, onLast] = [await login(first.port, ann), await login(last.port, bob)];
  const members = await Promise.all(instances.map(({ port }, i) => login(port, ann, { device: `${i}` })));
  expect((await onLast.ask({ msgId: MsgId.chat, toid: ann.id, msg: "to all" })).errno).toBe(0);
  for (const wire of [onFirst, ...members]) expect((await wire.push(MsgId.chat)).msg).toBe("to all");
  const [row] = await mariadb.admin(`SELECT COUNT(*) AS alive FROM ${databaseOf(url)}.instance`);
  expect(row?.alive).toBe(10);
  expect(await Promise.all(instances.map((instance) => instance.stop()))).toEqual(Array(10).fill(0));
}, 60_000);
