// Who has logged out at one instance: the others see it before the answer comes, and in time where output is not read.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import type { RunningServer } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";
import { longestQueue } from "./kernel.ts";

let cluster: RunningCluster;
let one: RunningServer;
let two: RunningServer;

beforeAll(async () => {
  cluster = await startCluster();
  [one, two] = [await cluster.start(), await cluster.start()];
}, 30_000);
afterAll(() => cluster.stop());

test("who is told that they are logged out can log in at another instance", async () => {
  const [ann, bob] = [await register(one.port), await register(one.port)];
  const sender = await login(one.port, bob);
  const wires = [await Wire.connect(one.port), await Wire.connect(two.port)];
  const request = { msgId: MsgId.login, id: ann.id, password: ann.password };
  for (let i = 0; i < 100; i++) {
    const wire = wires[i % 2]!;
    expect((await wire.ask(request)).errno).toBe(0);
    // A position that is to be saved before the others may have the device.
    await sender.ask({ msgId: MsgId.chat, toid: ann.id, msg: `${i}` });
    expect((await wire.push(MsgId.chat)).msg).toBe(`${i}`);
    expect((await wire.ask({ msgId: MsgId.logout })).errno).toBe(0);
  }
}, 30_000);

test("also where hundreds log out at once, each with something to save", async () => {
  const users: User[] = [];
  for (let i = 0; i < 200; i++) users.push(await register(one.port));
  const sender = await login(one.port, await register(one.port));
  const here = await Promise.all(users.map((user) => login(one.port, user)));
  const there = await Promise.all(users.map(() => Wire.connect(two.port)));
  sender.send(...users.map(({ id }) => ({ msgId: MsgId.chat, toid: id, msg: "hi" })));
  await Promise.all(here.map((wire) => wire.push(MsgId.chat)));
  const errnos = await Promise.all(
    users.map(async ({ id, password }, i) => {
      const { errno } = await here[i]!.ask({ msgId: MsgId.logout });
      return [errno, (await there[i]!.ask({ msgId: MsgId.login, id, password })).errno];
    }),
  );
  expect(errnos.filter(([out, again]) => out !== 0 || again !== 0)).toEqual([]);
  for (const wire of [...here, ...there]) wire.close();
}, 60_000);

test("who logs out and does not read what waits is offline for everybody, and can log in elsewhere", async () => {
  const [ann, bob, friend] = [await register(one.port), await register(one.port), await register(two.port)];
  const [sender, follower] = [await login(one.port, bob), await login(two.port, friend)];
  await follower.ask({ msgId: MsgId.addFriend, friendId: ann.id });
  const wire = await login(one.port, ann);
  expect(await stateOf(follower)).toBe("online");
  wire.pause();
  let [held, full] = [0, 0];
  for (let sent = 0; full < 4; sent++) {
    await sender.ask({ msgId: MsgId.chat, toid: ann.id, msg: "x".repeat(60_000), mid: `m${sent}` });
    const queue = longestQueue(one.port);
    full = queue > 0 && queue === held ? full + 1 : 0;
    held = queue;
  }
  wire.send({ msgId: MsgId.logout });
  const startedAt = performance.now();
  expect(await stateOf(follower)).toBe("offline");
  expect(performance.now() - startedAt).toBeLessThan(10_000);
  const after = await login(two.port, ann);
  // What the first connection has not taken comes again.
  expect((await after.push(MsgId.chat)).msg).toBeString();
}, 60_000);

const stateOf = async (follower: Wire) =>
  (await follower.next(({ msgId }) => msgId === MsgId.presence, "presence", 20_000)).state;
