// Connections that do not log in, and sessions that fall silent.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, Wire } from "../wire.ts";

const LOGIN_MS = 2_000;
const IDLE_MS = 3_000;
let server: RunningServer;

beforeAll(async () => {
  const flags = ["--login-timeout", `${LOGIN_MS / 1000}s`, "--idle-timeout", `${IDLE_MS / 1000}`];
  server = await startServer(`${temporaryFolder()}/chat.db`, [...CHEAP_PASSWORDS, ...flags]);
});

afterAll(() => server.stop());

const endsAfter = async (wire: Wire, ms: number): Promise<void> => {
  const startedAt = performance.now();
  await wire.whenEnded();
  expect(performance.now() - startedAt).toBeGreaterThan(ms - 100);
};

test("a connection that does not log in is closed after the time for it, whatever else it asks", async () => {
  const wires = await Promise.all(Array.from({ length: 4 }, () => Wire.connect(server.port)));
  const [silent, beating, refused, registering] = wires as [Wire, Wire, Wire, Wire];
  const user = await register(server.port);
  const session = await login(server.port, user);
  const timer = setInterval(() => beating.send({ msgId: 1012 }), 100);
  refused.send({ msgId: 1002, id: 999_999, password: "secret1" });
  registering.send({ msgId: 1000, name: "somebody", password: "secret1" });
  await Promise.all([silent, beating, refused, registering].map((wire) => endsAfter(wire, LOGIN_MS)));
  clearInterval(timer);
  // Who is logged in stays.
  await session.settle();
  // After the log-out, the time begins again.
  await session.ask({ msgId: 1009 });
  await endsAfter(session, LOGIN_MS);
});

test("silence ends a session that has sent a heartbeat, and no other", async () => {
  const [ann, bob, carl] = [await register(server.port), await register(server.port), await register(server.port)];
  const quiet = await login(server.port, ann);
  await quiet.ask({ msgId: 1005, friendId: bob.id });
  const talking = await login(server.port, carl, { device: "talking" });
  await talking.settle();
  const blank = await Wire.connect(server.port, "lf");
  blank.send({ msgId: 1002, id: carl.id, password: carl.password, device: "blank" }, { msgId: 1012, reqId: "in" });
  await blank.next(({ reqId }) => reqId === "in");
  const timers = [setInterval(() => talking.send({ msgId: 1014 }), 200), setInterval(() => blank.raw("\n"), 200)];
  const beating = await login(server.port, bob);
  expect(await quiet.push(1021)).toMatchObject({ id: bob.id, state: "online" });
  await beating.settle();
  // What is pushed to it is no sign of life.
  const pushing = setInterval(() => talking.send({ msgId: 1004, toid: bob.id, msg: "there?" }), 200);
  await endsAfter(beating, IDLE_MS);
  clearInterval(pushing);
  expect(await quiet.push(1021)).toMatchObject({ id: bob.id, state: "offline" });
  // Silent for longer than the one that was ended.
  expect(quiet.ended).toBe(false);
  expect((await quiet.ask({ msgId: 1014 })).errno).toBe(0);
  for (const timer of timers) clearInterval(timer);
  expect([talking.ended, blank.ended]).toEqual([false, false]);
  (await login(server.port, bob)).close();
  for (const wire of [quiet, talking, blank]) wire.close();
});

test("heartbeats of an earlier session on the connection do not count", async () => {
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const wire = await login(server.port, ann);
  await wire.settle();
  await wire.ask({ msgId: 1009 });
  expect(await wire.ask({ msgId: 1002, id: ann.id, password: ann.password })).toMatchObject({ errno: 0 });
  const other = await login(server.port, bob);
  await other.settle();
  await other.whenEnded();
  await until(() => !wire.ended, "the session without heartbeats");
  expect((await wire.ask({ msgId: 1014 })).errno).toBe(0);
  wire.close();
});
