// What answers and pushes hold, field by field, as PROTOCOL.md's sections 3 and 4 list them.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol.ts";
import { type RunningServer, startServer, temporaryFolder } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";

let server: RunningServer;
let ann: User;
let bob: User;

beforeAll(async () => {
  server = await startServer(`${temporaryFolder()}/chat.db`);
  ann = await register(server.port);
  bob = await register(server.port);
});

afterAll(() => server.stop());

const direct = (a: User, b: User): string => `u:${Math.min(a.id, b.id)}-${Math.max(a.id, b.id)}`;

/** `time` and `ts` of a message say the same moment, about now. */
function expectNow({ time, ts }: Message): void {
  expect(Math.abs(Date.now() - (ts as number))).toBeLessThan(60_000);
  const t = new Date(ts as number);
  const two = (n: number) => String(n).padStart(2, "0");
  expect(time).toBe(
    `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`,
  );
}

describe("answers", () => {
  test("1001: the id, a positive integer, another one for every user", async () => {
    const wire = await Wire.connect(server.port);
    const first = await wire.ask({ msgId: 1000, name: "first", password: "secret1", reqId: "r" });
    expect(first).toEqual({ msgId: 1001, reqId: "r", errno: 0, id: expect.any(Number) });
    const second = await wire.ask({ msgId: 1000, name: "second", password: "secret1" });
    expect(second.id as number).toBeGreaterThan(first.id as number);
    wire.close();
  });

  test("a name is another user's for one of those who register it at once, and logs in in any normal form", async () => {
    const wires = await Promise.all(Array.from({ length: 5 }, () => Wire.connect(server.port)));
    const names = ["Zo\u00e9", "Zoe\u0301", "Zo\u00e9", "Zoe\u0301", "Zo\u00e9"];
    const answers = await Promise.all(
      wires.map((wire, i) => wire.ask({ msgId: 1000, name: names[i]!, password: "secret1" })),
    );
    expect(answers.map(({ errno }) => errno).toSorted()).toEqual([0, 1, 1, 1, 1]);
    const { id } = answers.find(({ errno }) => errno === 0)!;
    for (const [i, wire] of wires.entries())
      expect(await wire.ask({ msgId: 1002, name: names[i]!, password: "secret1", device: `${i}` })).toMatchObject({
        errno: 0,
        id: id!,
        name: "Zo\u00e9",
      });
    expect(await wires[0]!.ask({ msgId: 1000, name: "zo\u00e9", password: "secret1" })).toMatchObject({ errno: 0 });
    for (const wire of wires) wire.close();
  });

  test("1003: who one is, a token, friends, groups and the count of stored messages", async () => {
    const [carl, dora, eve] = [await register(server.port), await register(server.port), await register(server.port)];
    const dorasWire = await login(server.port, dora);
    const evesWire = await login(server.port, eve);
    const { groupid } = await dorasWire.ask({ msgId: 1006, groupname: "dora's", groupdesc: "all of us" });
    await evesWire.ask({ msgId: 1007, groupid: groupid! });
    const first = await login(server.port, carl);
    expect(first.answer).toEqual({
      msgId: 1003,
      reqId: "r1",
      errno: 0,
      id: carl.id,
      name: carl.name,
      token: expect.any(String),
      friends: [],
      groups: [],
      offline: 0,
    });
    await first.ask({ msgId: 1005, friendId: eve.id });
    await first.ask({ msgId: 1005, friendId: dora.id });
    await first.ask({ msgId: 1007, groupid: groupid! });
    await first.ask({ msgId: 1009 });
    evesWire.close();
    await dorasWire.ask({ msgId: 1004, toid: carl.id, msg: "stored" });
    await dorasWire.ask({ msgId: 1008, groupid: groupid!, msg: "stored" });
    const wire = await login(server.port, carl);
    const { answer } = wire;
    expect(answer.friends).toEqual([
      { id: dora.id, name: dora.name, state: "online" },
      { id: eve.id, name: eve.name, state: "offline" },
    ]);
    expect(answer.groups).toEqual([
      {
        id: groupid!,
        groupname: "dora's",
        groupdesc: "all of us",
        count: 3,
        users: [
          { id: carl.id, name: carl.name, state: "online", role: "normal" },
          { id: dora.id, name: dora.name, state: "online", role: "creator" },
          { id: eve.id, name: eve.name, state: "offline", role: "normal" },
        ],
      },
    ]);
    expect(answer.offline).toBe(2);
    expect((await wire.ask({ msgId: 1014 })).friends).toEqual(answer.friends!);
    expect((await wire.ask({ msgId: 1015 })).groups).toEqual(answer.groups!);
    expect(await wire.ask({ msgId: 1015, groupid: groupid! })).toMatchObject({
      users: (answer.groups as { users: [] }[])[0]!.users,
      more: false,
    });
  });

  test("1004 and 1008: mid, seq, time", async () => {
    const wire = await login(server.port, ann, { device: "acks" });
    const one = await wire.ask({ msgId: 1004, toid: bob.id, msg: "hello", mid: "m1", reqId: 1 });
    expect(one).toMatchObject({ msgId: 1010, ack: 1004, reqId: 1, errno: 0, mid: "m1", seq: expect.any(Number) });
    expectNow(one);
    const { groupid } = await wire.ask({ msgId: 1006, groupname: "g" });
    const two = await wire.ask({ msgId: 1008, groupid: groupid!, msg: "hello", mid: "m1", reqId: 1 });
    expect(two).toMatchObject({ msgId: 1010, ack: 1008, reqId: 1, errno: 0, mid: "m1", seq: 1 });
    expectNow(two);
    // Answered for its mid alone.
    wire.send({ msgId: 1008, groupid: groupid!, msg: "hello", mid: "m2" });
    const three = await wire.next((message) => message.ack === 1008);
    expect(three).toMatchObject({ mid: "m2", seq: 2 });
    expect(three.reqId).toBeUndefined();
    wire.close();
  });

  test("1005: the friend; 1007: the group; 1012: the time", async () => {
    const [carl, dora] = [await register(server.port), await register(server.port)];
    const wire = await login(server.port, carl);
    expect((await wire.ask({ msgId: 1005, friendId: dora.id })).friend).toEqual({
      id: dora.id,
      name: dora.name,
      state: "offline",
    });
    const other = await login(server.port, dora);
    const { groupid } = await other.ask({ msgId: 1006, groupname: "no words" });
    expect((await wire.ask({ msgId: 1007, groupid: groupid! })).group).toEqual({
      id: groupid!,
      groupname: "no words",
      groupdesc: "",
      count: 2,
      users: [
        { id: carl.id, name: carl.name, state: "online", role: "normal" },
        { id: dora.id, name: dora.name, state: "online", role: "creator" },
      ],
    });
    expectNow(await wire.ask({ msgId: 1012 }));
    expect((await other.ask({ msgId: 1005, friendId: carl.id })).friend).toMatchObject({ state: "online" });
    wire.close();
    other.close();
  });

  test("1015: members in pages, by id", async () => {
    const wires = await Promise.all(
      Array.from({ length: 5 }, async () => login(server.port, await register(server.port))),
    );
    const ids = wires.map(({ answer }) => answer.id as number).toSorted((a, b) => a - b);
    const { groupid } = await wires[0]!.ask({ msgId: 1006, groupname: "pages" });
    for (const wire of wires.slice(1)) await wire.ask({ msgId: 1007, groupid: groupid! });
    const pages: number[][] = [];
    for (let more = true, after = 0; more; ) {
      const page = await wires[1]!.ask({ msgId: 1015, groupid: groupid!, after, limit: 2 });
      pages.push((page.users as { id: number }[]).map(({ id }) => id));
      more = page.more as boolean;
      after = pages.at(-1)!.at(-1)!;
    }
    expect(pages).toEqual([ids.slice(0, 2), ids.slice(2, 4), ids.slice(4)]);
    expect(await wires[1]!.ask({ msgId: 1015, groupid: groupid!, limit: 5 })).toMatchObject({ more: false });
    expect(await wires[1]!.ask({ msgId: 1015, groupid: groupid!, after: ids[4]! })).toMatchObject({
      users: [],
      more: false,
    });
    for (const wire of wires) wire.close();
  });

  test("a group shows its count and at most 200 members", async () => {
    const users: User[] = [];
    for (let i = 0; i < 201; i += 30)
      users.push(...(await Promise.all(Array.from({ length: 30 }, () => register(server.port)))));
    const creator = await login(server.port, users[0]!);
    const { groupid } = await creator.ask({ msgId: 1006, groupname: "many" });
    for (const user of users.slice(1, 203)) {
      const wire = await login(server.port, user);
      await wire.ask({ msgId: 1007, groupid: groupid! });
      wire.close();
    }
    const [group] = (await creator.ask({ msgId: 1015 })).groups as [{ count: number; users: { id: number }[] }];
    expect(group.count).toBe(203);
    expect(group.users.length).toBe(200);
    const last = group.users.at(-1)!.id;
    const rest = await creator.ask({ msgId: 1015, groupid: groupid!, after: last });
    expect(rest).toMatchObject({ more: false });
    expect((rest.users as unknown[]).length).toBe(3);
    creator.close();
  });
});

describe("pushes", () => {
  test("1004, 1008, 1005 and 1007, with every field", async () => {
    const [carl, dora] = [await register(server.port), await register(server.port)];
    const conv = direct(carl, dora);
    const sender = await login(server.port, carl);
    const receiver = await login(server.port, dora);
    await sender.ask({ msgId: 1004, toid: dora.id, msg: "hé\u0000\n🙂\u2028", mid: "m\u00001" });
    const chat = await receiver.push(1004);
    expectNow(chat);
    const at = { time: chat.time!, ts: chat.ts! };
    expect(chat).toEqual({
      msgId: 1004,
      fromid: carl.id,
      id: carl.id,
      name: carl.name,
      toid: dora.id,
      msg: "hé\u0000\n🙂\u2028",
      ...at,
      conv,
      seq: 1,
      mid: "m\u00001",
    });
    await sender.ask({ msgId: 1004, toid: dora.id, msg: "" });
    expect(await receiver.push(1004)).not.toHaveProperty("mid");

    await sender.ask({ msgId: 1005, friendId: dora.id, msg: "it is me" });
    expect(await receiver.push(1005)).toMatchObject({
      msgId: 1005,
      id: carl.id,
      name: carl.name,
      friendId: dora.id,
      msg: "it is me",
      conv,
      seq: 3,
    });
    await receiver.ask({ msgId: 1005, friendId: carl.id });
    expect(await sender.push(1005)).toMatchObject({ id: dora.id, friendId: carl.id, msg: "", conv, seq: 4 });

    const { groupid } = await sender.ask({ msgId: 1006, groupname: "g" });
    await receiver.ask({ msgId: 1007, groupid: groupid! });
    expect(await sender.push(1007)).toMatchObject({
      msgId: 1007,
      groupid: groupid!,
      id: dora.id,
      userid: dora.id,
      conv: `g:${groupid}`,
      seq: 1,
    });
    await sender.ask({ msgId: 1008, groupid: groupid!, msg: "hi", mid: "m2" });
    const group = await receiver.push(1008);
    expectNow(group);
    expect(group).toEqual({
      msgId: 1008,
      id: carl.id,
      name: carl.name,
      groupid: groupid!,
      msg: "hi",
      time: group.time!,
      ts: group.ts!,
      conv: `g:${groupid}`,
      seq: 2,
      mid: "m2",
    });
    sender.close();
    receiver.close();
  });

  test("stored ones are the same as live ones", async () => {
    const [carl, dora] = [await register(server.port), await register(server.port)];
    const sender = await login(server.port, carl);
    const live = await login(server.port, dora, { device: "live" });
    const { groupid } = await sender.ask({ msgId: 1006, groupname: "g" });
    await live.ask({ msgId: 1007, groupid: groupid! });
    const later = await login(server.port, dora, { device: "later" });
    later.close();
    await sender.ask({ msgId: 1004, toid: dora.id, msg: "one", mid: "1" });
    await sender.ask({ msgId: 1005, friendId: dora.id, msg: "two" });
    await sender.ask({ msgId: 1008, groupid: groupid!, msg: "three" });
    const pushes = [await live.push(1004), await live.push(1005), await live.push(1008)];
    const again = await login(server.port, dora, { device: "later" });
    const stored = [await again.push(1004), await again.push(1005), await again.push(1008)];
    expect(stored).toEqual(pushes);
    for (const wire of [sender, live, again]) wire.close();
  });
});
