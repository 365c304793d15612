// Readers that stop: what they cost has a bound, nobody else waits for them, and nothing is lost to them.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register } from "../wire.ts";
import { Reader, send, Talk } from "./flows.ts";
import { longestQueue, residentMiB } from "./kernel.ts";

const MESSAGE = "x".repeat(16 * 1024);
const PER_MIB = 64;
const WARM_MIB = 64;
const FLOOD_MIB = 256;
/**
 * What a flood for a reader that stopped may leave beyond the most that one for a reader took: the high-water mark. On the way
 * there is what the garbage collector has not come to, but never all of the flood.
 */
const BOUND_MIB = 32;
/** The others share two cores and a disk with the flood; but who had to wait for the reader would wait to its end. */
const OTHERS_MS = 15_000;

const start = (...flags: string[]) => startServer(join(temporaryFolder(), "chat.db"), [...CHEAP_PASSWORDS, ...flags]);

test("a flood for a reader that stopped is not kept in memory, slows nobody else, and is all there when it reads on", async () => {
  const server = await start();
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const sender = await login(server.port, ann);
  const reader = new Reader(await login(server.port, bob));
  const talk = await Talk.between(server.port);
  const message = { msgId: MsgId.chat, toid: bob.id, msg: MESSAGE };
  let peak = 0;
  const watch = () => {
    peak = Math.max(peak, residentMiB(server.pid));
  };
  await send(sender, message, WARM_MIB * PER_MIB, () => {
    watch();
    reader.take();
  });
  await reader.until(WARM_MIB * PER_MIB);

  const before = peak;
  const heard = talk.heard;
  reader.wire.pause();
  await send(sender, message, FLOOD_MIB * PER_MIB, () => {
    watch();
    talk.step();
    sender.bytes = [];
  });
  expect(reader.wire.received).toEqual([]);
  expect(peak - before).toBeLessThan(FLOOD_MIB);
  expect(talk.heard - heard).toBeGreaterThan(10);
  expect(talk.slowestMs).toBeLessThan(OTHERS_MS);
  // Some of it has been sent: the reader is what the server waits for.
  expect(longestQueue(server.port)).toBeGreaterThan(0);
  await until(() => residentMiB(server.pid) - before < BOUND_MIB, "the flood is out of memory", 20_000);

  reader.wire.resume();
  await reader.until((WARM_MIB + FLOOD_MIB) * PER_MIB);
  await server.stop();
}, 60_000);

test("a group's other members get everything while one of them has stopped reading", async () => {
  const server = await start();
  const users = await Promise.all(Array.from({ length: 4 }, () => register(server.port)));
  const [sender, ...others] = await Promise.all(users.map((user) => login(server.port, user)));
  const { groupid } = await sender!.ask({ msgId: MsgId.createGroup, groupname: "readers" });
  for (const wire of others) await wire.ask({ msgId: MsgId.joinGroup, groupid });
  const message = { msgId: MsgId.groupChat, groupid, msg: MESSAGE };
  const { seq } = await sender!.ask(message);
  await Promise.all(others.map((wire) => wire.next((each) => each.seq === seq)));
  const readers = others.map((wire) => new Reader(wire, seq as number));
  const stopped = readers[0]!;
  for (const { wire } of readers) wire.rest();
  stopped.wire.pause();

  const count = 24 * PER_MIB;
  await send(sender!, message, count, () => {
    for (const reader of readers.slice(1)) reader.take();
  });
  const last = (seq as number) + count;
  for (const reader of readers.slice(1)) await reader.until(last);
  expect(stopped.wire.received).toEqual([]);
  stopped.wire.resume();
  await stopped.until(last);
  await server.stop();
});

test("who asks and asks and does not read the answers is not read either", async () => {
  const server = await start();
  const user = await register(server.port);
  const wire = await login(server.port, user);
  for (let i = 0; i < 20; i++)
    await wire.ask({ msgId: MsgId.createGroup, groupname: `group ${i}`, groupdesc: "d".repeat(200) });
  const requests = (count: number) => Array.from({ length: count }, (_, reqId) => ({ msgId: MsgId.groups, reqId }));
  const startedAt = performance.now();
  wire.send(...requests(1_000));
  await until(() => wire.received.length === 1_000, "answers, while they are read", 30_000);
  wire.rest();
  wire.bytes = [];

  // Answers of 6 KiB: 36 MiB in all. By then a server that went on would have made them.
  const COUNT = 6_000;
  const allMs = 1.5 * (COUNT / 1_000) * (performance.now() - startedAt);
  const before = residentMiB(server.pid);
  wire.pause();
  wire.send(...requests(COUNT));
  const pausedAt = performance.now();
  const talk = await Talk.between(server.port);
  let peak = before;
  await until(
    () => {
      talk.step();
      peak = Math.max(peak, residentMiB(server.pid));
      return talk.heard > 20 && performance.now() - pausedAt > allMs;
    },
    "the others talk on",
    30_000,
  );
  expect(wire.received).toEqual([]);
  expect(peak - before).toBeLessThan(18);

  wire.resume();
  await until(() => wire.received.length === COUNT, "all answers", 30_000);
  expect(wire.rest().map(({ reqId }) => reqId)).toEqual(Array.from({ length: COUNT }, (_, i) => i));
  await server.stop();
}, 60_000);

test("a reader that takes nothing for --write-timeout is cut off, and gets everything after its next log-in", async () => {
  const server = await start("--write-timeout", "2");
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const sender = await login(server.port, ann);
  await sender.ask({ msgId: MsgId.addFriend, friendId: bob.id });
  const stopped = await login(server.port, bob, { confirm: true });
  const slow = new Reader(await login(server.port, bob, { device: "slow" }), 1);
  await slow.wire.next(({ msgId }) => msgId === MsgId.addFriend);
  stopped.pause();
  const message = { msgId: MsgId.chat, toid: bob.id, msg: MESSAGE };
  await send(sender, message, 24 * PER_MIB);
  const pushedAt = performance.now();
  // Takes a little now and then, for longer than the time.
  await until(
    async () => {
      slow.wire.resume();
      slow.take();
      await Bun.sleep(1);
      slow.wire.pause();
      await Bun.sleep(50);
      return stopped.closed && performance.now() - pushedAt > 4_000;
    },
    "the end of the connection",
    20_000,
  );
  slow.wire.resume();
  await slow.until(24 * PER_MIB + 1);

  const again = new Reader(await login(server.port, bob, { confirm: true }));
  await again.until(24 * PER_MIB + 1);
  await server.stop();
});
