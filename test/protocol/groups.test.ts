// Groups as logs: who gets which row, and from where on; events are rows like messages.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol.ts";
import { type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type Wire } from "../wire.ts";

let server: RunningServer;

beforeAll(async () => {
  server = await startServer(`${temporaryFolder()}/chat.db`);
});

afterAll(() => server.stop());

const enter = async (fields = {}) => login(server.port, await register(server.port), fields);
const create = async (wire: Wire, groupname = "g"): Promise<number> =>
  (await wire.ask({ msgId: 1006, groupname })).groupid as number;
const join = (wire: Wire, groupid: number) => wire.ask({ msgId: 1007, groupid });
const say = (wire: Wire, groupid: number, msg: string) => wire.ask({ msgId: 1008, groupid, msg });

/** Takes pushes up to the message `text`, as [msgId, seq, text or who joined]. */
async function upTo(wire: Wire, text: string): Promise<unknown[][]> {
  const seen: unknown[][] = [];
  for (let push: Message | null = null; push?.msg !== text; ) {
    push = await wire.next(({ msgId }) => msgId === 1008 || msgId === 1007);
    seen.push([push.msgId, push.seq, push.msgId === 1008 ? push.msg : push.userid]);
  }
  return seen;
}

test("everybody else in the group gets a message, strangers do not", async () => {
  const [a, b, c, stranger] = [await enter(), await enter(), await enter(), await enter()];
  const group = await create(a);
  await join(b, group);
  await join(c, group);
  await say(b, group, "hello");
  await say(a, group, "end");
  const ids = [a, b, c].map(({ answer }) => answer.id);
  expect(await upTo(c, "end")).toEqual([
    [1008, 3, "hello"],
    [1008, 4, "end"],
  ]);
  expect(await upTo(b, "end")).toEqual([
    [1007, 2, ids[2]],
    [1008, 4, "end"],
  ]);
  await say(c, group, "last");
  expect(await upTo(a, "last")).toEqual([
    [1007, 1, ids[1]],
    [1007, 2, ids[2]],
    [1008, 3, "hello"],
    [1008, 5, "last"],
  ]);
  // The stranger's next push is the one that is for them.
  await a.ask({ msgId: 1004, toid: stranger.answer.id!, msg: "for you" });
  expect(await stranger.next()).toMatchObject({ msgId: 1004, msg: "for you" });
  for (const wire of [a, b, c, stranger]) wire.close();
});

test("a new member starts at the join: on the device that joined, on the others, and on those to come", async () => {
  const creator = await enter();
  const user = await register(server.port);
  const [phone, desk] = [
    await login(server.port, user, { device: "phone" }),
    await login(server.port, user, { device: "desk" }),
  ];
  const group = await create(creator);
  await say(creator, group, "before 1");
  await say(creator, group, "before 2");
  await join(phone, group);
  await say(creator, group, "behind");
  expect(await upTo(phone, "behind")).toEqual([[1008, 4, "behind"]]);
  // The join is one's own act, so the other devices are told.
  expect(await upTo(desk, "behind")).toEqual([
    [1007, 3, user.id],
    [1008, 4, "behind"],
  ]);
  await phone.ask({ msgId: 1009 });
  await desk.ask({ msgId: 1009 });
  const fresh = await login(server.port, user, { device: "new" });
  expect(fresh.answer.offline).toBe(0);
  await say(creator, group, "more");
  expect(await upTo(fresh, "more")).toEqual([[1008, 5, "more"]]);
  for (const wire of [creator, phone, desk, fresh]) wire.close();
});

test("events and messages wait for members who are offline, in one order", async () => {
  const creator = await enter();
  const user = await register(server.port);
  const group = await create(creator);
  const wire = await login(server.port, user);
  await join(wire, group);
  await wire.ask({ msgId: 1009 });
  await say(creator, group, "one");
  const other = await enter();
  await join(other, group);
  await say(other, group, "two");
  const back = await login(server.port, user);
  expect(back.answer.offline).toBe(3);
  expect(await upTo(back, "two")).toEqual([
    [1008, 2, "one"],
    [1007, 3, other.answer.id],
    [1008, 4, "two"],
  ]);
  for (const each of [creator, wire, other, back]) each.close();
});

test("the acks of several senders and the pushes of all tell one sequence", async () => {
  const creator = await enter();
  const group = await create(creator);
  const others = await Promise.all(Array.from({ length: 4 }, () => enter()));
  for (const other of others) await join(other, group);
  const wires: Wire[] = [creator, ...others];
  for (const [i, wire] of wires.entries())
    wire.send(
      ...Array.from({ length: 100 }, (_, j) => ({ msgId: 1008, groupid: group, msg: `${i} ${j}`, mid: `${j}` })),
    );
  const said = new Map<number, string>();
  for (const [i, wire] of wires.entries())
    for (let j = 0; j < 100; j++) {
      const ack = await wire.next(({ msgId }) => msgId === 1010);
      expect(ack).toMatchObject({ errno: 0, mid: `${j}` });
      said.set(ack.seq as number, `${i} ${j}`);
    }
  // Four joins come before them.
  expect([...said.keys()].toSorted((a, b) => a - b)).toEqual(Array.from({ length: 500 }, (_, i) => i + 5));
  for (const [i, wire] of wires.entries()) {
    const pushed = new Map<number, string>();
    let last = 0;
    for (let j = 0; j < 400; j++) {
      const { seq, msg } = await wire.push(1008);
      expect(seq as number).toBeGreaterThan(last);
      last = seq as number;
      pushed.set(last, msg as string);
    }
    const expected = [...said].filter(([, text]) => !text.startsWith(`${i} `)).toSorted(([a], [b]) => a - b);
    expect([...pushed]).toEqual(expected);
  }
  for (const wire of wires) wire.close();
});

test("a join in the middle of a stream of messages misses none behind it and gets none before it", async () => {
  const creator = await enter();
  const group = await create(creator);
  let writing = true;
  const writer = (async () => {
    for (let i = 0; writing; i++) await creator.ask({ msgId: 1008, groupid: group, msg: `${i}` });
  })();
  const members = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const wire = await enter();
      await join(wire, group);
      return wire;
    }),
  );
  writing = false;
  await writer;
  await say(creator, group, "end");
  for (const member of members) {
    const seen = await upTo(member, "end");
    const first = seen[0]![1] as number;
    // Its own join, just before, is the first that it is not pushed.
    expect(seen.map(([, seq]) => seq)).toEqual(Array.from({ length: seen.length }, (_, i) => first + i));
  }
  for (const wire of [creator, ...members]) wire.close();
});

describe("a user in more conversations than a session keeps in memory", () => {
  test("gets every message of all of them, live and stored", async () => {
    const GROUPS = 2_700;
    const user = await register(server.port);
    const desk = await login(server.port, user, { device: "desk" });
    const groups: number[] = [];
    for (let from = 0; from < GROUPS; from += 500)
      desk.send(
        ...Array.from({ length: 500 }, (_, i) => ({ msgId: 1006, groupname: `g${from + i}`, reqId: from + i })),
      );
    while (groups.length < GROUPS) groups.push((await desk.next(({ ack }) => ack === 1006)).groupid as number);
    const phone = await login(server.port, user, { device: "phone", confirm: true });
    const all = (round: string) => groups.map((groupid) => ({ msgId: 1008, groupid, msg: round, mid: round }));
    for (const [i, round] of ["first", "second", "third"].entries()) {
      desk.send(...all(round));
      const arrived = new Set<unknown>();
      while (arrived.size < GROUPS) {
        const { seq, msg, groupid, conv } = await phone.push(1008, 20_000);
        expect([seq, msg, arrived.has(groupid)]).toEqual([i + 1, round, false]);
        arrived.add(groupid);
        phone.send({ msgId: 1011, conv: conv!, seq: seq! });
      }
      for (const _ of groups) expect(await phone.next(({ ack }) => ack === 1011)).toMatchObject({ errno: 0 });
      for (const _ of groups) expect(await desk.next(({ ack }) => ack === 1008)).toMatchObject({ errno: 0 });
    }
    // Of what is dropped from memory, a confirmation is still right.
    phone.send(...groups.map((group) => ({ msgId: 1011, conv: `g:${group}`, seq: 3 })));
    for (const _ of groups) expect(await phone.next(({ ack }) => ack === 1011)).toMatchObject({ errno: 0 });
    await phone.ask({ msgId: 1009 });
    desk.send(...all("stored"));
    await until(() => desk.received.filter(({ ack }) => ack === 1008).length === GROUPS, "all acks");
    const again = await login(server.port, user, { device: "phone" });
    expect(again.answer.offline).toBe(GROUPS);
    const stored = new Set<unknown>();
    for (const _ of groups) {
      const { seq, msg, groupid } = await again.push(1008);
      expect([seq, msg]).toEqual([4, "stored"]);
      stored.add(groupid);
    }
    expect(stored.size).toBe(GROUPS);
    for (const wire of [desk, phone, again]) wire.close();
  });
});
