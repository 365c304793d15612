// All connections to the database are half-open: they stand, and lead nowhere. That costs the callers one time limit, not one
// for each connection of the pool, and what is given up holds no descriptor any more.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Errno, type JsonObject, MsgId } from "../../src/protocol.ts";
import { type RunningServer, until } from "../harness.ts";
import { type RunningMariadb, startMariadb } from "../services.ts";
import { Gate } from "../soak/gate.ts";
import { descriptorsOf } from "../soak/resources.ts";
import { login, register, type Wire } from "../wire.ts";
import { startInstance } from "./cluster-crowd.ts";

const STORE_TIMEOUT_S = 2;
/** Of the pool, of the lanes and of the lease. */
const CONNECTIONS = 8 + 2 + 1;

let mariadb: RunningMariadb;
let gate: Gate;
let server: RunningServer;

beforeAll(async () => {
  mariadb = await startMariadb();
  gate = new Gate(() => [mariadb.port]);
  const url = (await mariadb.database()).replace(/:\d+\//, `:${gate.port}/`);
  server = await startInstance(url, [], ["--store-timeout", String(STORE_TIMEOUT_S)]);
}, 30_000);
afterAll(async () => {
  await server?.stop("SIGKILL");
  gate?.stop();
  await mariadb?.stop();
});

test("the connections to the database lead nowhere: one wait, then all goes on", async () => {
  const users = await Promise.all(Array.from({ length: 12 }, () => register(server.port)));
  const wires = await Promise.all(users.map((user) => login(server.port, user)));
  const [ann, bob] = wires as Wire[] as [Wire, Wire, ...Wire[]];
  const chat = (msg: string): JsonObject => ({ msgId: MsgId.chat, toid: users[1]!.id, msg, mid: msg });
  // Until every connection is used.
  const busy = async () => {
    await Promise.all(
      wires.flatMap((wire) => [wire.ask({ msgId: MsgId.friends }), wire.ask(chat(crypto.randomUUID()))]),
    );
    const rows = await mariadb.admin("SELECT id FROM information_schema.processlist WHERE user = 'chat'");
    return rows.length >= CONNECTIONS;
  };
  await until(busy, "all connections are open");

  const descriptors = descriptorsOf(server.pid);

  gate.strand();
  const startedAt = performance.now();
  expect((await ann.ask(chat("1"))).errno).toBe(Errno.unavailable);
  expect(performance.now() - startedAt).toBeLessThan(STORE_TIMEOUT_S * 1_000 + 1_500);
  expect((await ann.ask(chat("1"))).errno).toBe(Errno.ok);
  // By now it is known; whatever connection somebody gets, it is a good one.
  const againAt = performance.now();
  const answers = await Promise.all([ann.ask(chat("2")), ...wires.map((wire) => wire.ask({ msgId: MsgId.friends }))]);
  expect(answers.map(({ errno }) => errno)).toEqual(answers.map(() => Errno.ok));
  expect(performance.now() - againAt).toBeLessThan(1_500);
  for (const text of ["1", "2"]) await bob.next(({ msg, ack }) => msg === text && ack === undefined);
  expect(wires.map(({ ended }) => ended)).toEqual(wires.map(() => false));
  await until(() => descriptorsOf(server.pid) <= descriptors, "what was given up is closed");
}, 60_000);
