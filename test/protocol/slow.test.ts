// Clients that do not read: they cost what the high-water mark allows, wait for nobody but themselves, and lose nothing.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";

let server: RunningServer;
let ann: User;
let writer: Wire;

beforeAll(async () => {
  server = await startServer(`${temporaryFolder()}/chat.db`, [...CHEAP_PASSWORDS, "--high-water", "256k"]);
  ann = await register(server.port);
  writer = await login(server.port, ann);
});

afterAll(() => server.stop());

const count = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

async function write(to: User, texts: string[]): Promise<void> {
  writer.send(...texts.map((msg, i) => ({ msgId: 1004, toid: to.id, msg, reqId: i })));
  await until(() => writer.received.length === texts.length, "the acks", 20_000);
  expect(writer.rest().every(({ errno }) => errno === 0)).toBe(true);
}

/** Resident memory of the server, bytes. */
const memory = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))![1]) * 1024;

/** Reads once, and waits, again and again, until `done`. */
async function readSlowly(wire: Wire, waitMs: number, done: () => unknown): Promise<void> {
  wire.stepping = true;
  await until(
    async () => {
      wire.resume();
      await Bun.sleep(waitMs);
      return done() || wire.ended;
    },
    "the end of slow reading",
    25_000,
  );
  wire.stepping = false;
  wire.resume();
}

test("a pipeline whose answers are not read is answered when they are, in order, and holds nobody up", async () => {
  const wire = await login(server.port, await register(server.port));
  const other = await login(server.port, await register(server.port));
  const reqId = (i: number) => `${i} ${"x".repeat(50)}`;
  wire.pause();
  for (let from = 0; from < 200_000; from += 20_000) {
    wire.send(...count(from + 1, from + 20_000).map((i) => ({ msgId: 1012, reqId: reqId(i) })));
    await other.settle();
  }
  wire.resume();
  await until(() => wire.received.length === 200_000, "all answers", 25_000);
  expect(wire.rest().every((answer, i) => answer.reqId === reqId(i + 1))).toBe(true);
  wire.close();
  other.close();
});

test("many that do not read their backlog cost little memory; each gets it when it reads", async () => {
  const bob = await register(server.port);
  const text = "x".repeat(10_000);
  const devices = count(1, 20).map(String);
  for (const device of devices) (await login(server.port, bob, { device })).close();
  for (let i = 0; i < 10; i++)
    await write(
      bob,
      count(1, 200).map((j) => `${i * 200 + j} ${text}`),
    );
  const before = memory();
  const wires = await Promise.all(
    devices.map(async (device) => {
      const wire = await login(server.port, bob, { device, takeover: true });
      wire.pause();
      return wire;
    }),
  );
  // 20 times 20 MB are waiting; the kernel's own buffers are not the server's memory.
  await write(ann, count(1, 20).map(String));
  expect(memory() - before).toBeLessThan(200 * 1024 * 1024);
  for (const wire of wires) {
    wire.resume();
    await until(() => wire.received.length === 2_000, "the backlog", 20_000);
    expect(wire.rest().map(({ seq }) => seq)).toEqual(count(1, 2_000));
    wire.close();
  }
});

test("a log-out and a log-in behind output that takes seconds to read: nothing lost, nothing twice, no cut", async () => {
  const patient = await startServer(`${temporaryFolder()}/chat.db`, [...CHEAP_PASSWORDS, "--high-water", "8m"]);
  const [bob, carl] = [await register(patient.port), await register(patient.port)];
  const carls = await login(patient.port, carl);
  const text = "x".repeat(20_000);
  carls.send(...count(1, 1_000).map((i) => ({ msgId: 1004, toid: bob.id, msg: `${i} ${text}`, reqId: i })));
  await until(() => carls.received.length === 1_000, "the acks", 20_000);
  const wire = await Wire.connect(patient.port);
  wire.pause();
  const enter = { msgId: 1002, id: bob.id, password: bob.password };
  wire.send({ ...enter, reqId: "first" });
  // Until then, the kernel's buffers and the server's own fill up.
  await Bun.sleep(500);
  wire.send({ msgId: 1009, reqId: "out" }, { ...enter, reqId: "second" });
  await readSlowly(wire, 250, () => wire.received.some(({ reqId }) => reqId === "second"));
  expect(wire.ended).toBe(false);
  await carls.ask({ msgId: 1004, toid: bob.id, msg: "end" });
  await until(() => wire.received.at(-1)?.msg === "end", "the last message", 20_000);
  expect(wire.received.filter(({ msgId }) => msgId === 1004).map(({ seq }) => seq)).toEqual(count(1, 1_001));
  for (const each of [wire, carls]) each.close();
  await patient.stop();
}, 60_000);
