// First-generation clients: C programs that end their objects with NUL and parse lists of strings; and netcat.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { JsonObject, Message } from "../../src/protocol.ts";
import { type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";
import { Terminal } from "./terminal.ts";

let server: RunningServer;
let ann: User;
/** Ann's session, of today's kind: she writes. */
let writer: Wire;

beforeAll(async () => {
  server = await startServer(`${temporaryFolder()}/chat.db`);
  ann = await register(server.port);
  writer = await login(server.port, ann);
});

afterAll(() => server.stop());

const count = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Logs in as such a client does, by id and password alone. */
async function enter(user: User, fields: JsonObject = {}): Promise<Wire & { answer: Message }> {
  const wire = await Wire.connect(server.port, "nul");
  wire.send({ msgId: 1002, id: user.id, password: user.password, ...fields });
  const answer = await wire.next();
  expect(answer).toMatchObject({ msgId: 1003, errno: 0 });
  return Object.assign(wire, { answer });
}

const parsed = (list: unknown): Message[] => (list as string[]).map((each) => JSON.parse(each));

/** Texts to a user, in one pipeline. */
async function write(to: User, texts: string[]): Promise<void> {
  writer.send(...texts.map((msg, i) => ({ msgId: 1004, toid: to.id, msg, reqId: i })));
  for (const i of texts.keys())
    expect(await writer.next(({ ack }) => ack === 1004)).toMatchObject({ reqId: i, errno: 0 });
}

describe("the log-in answer of a NUL client", () => {
  test("friends, groups, their users, and stored messages are strings that hold objects", async () => {
    const [bob, carl] = [await register(server.port), await register(server.port)];
    const before = await enter(bob);
    expect(before.answer).toMatchObject({ id: bob.id, name: bob.name, friends: [], groups: [], offlinemsg: [] });
    before.send({ msgId: 1005, id: bob.id, friendId: ann.id }, { msgId: 1005, id: bob.id, friendId: carl.id });
    before.send({ msgId: 1006, id: bob.id, groupname: "zhys", groupdesc: "zhy group" });
    const { groupid } = await before.next(({ ack }) => ack === 1006);
    await writer.ask({ msgId: 1007, groupid: groupid! });
    await before.push(1007);
    before.send({ msgId: 1009, id: bob.id });
    await before.next(({ ack }) => ack === 1009);
    before.close();
    await write(bob, ["hello"]);
    await writer.ask({ msgId: 1008, groupid: groupid!, msg: "hello group" });

    const wire = await enter(bob);
    const { answer } = wire;
    expect(wire.text).toMatch(/^\{[^\n\0]*\}\0$/);
    expect(answer).toMatchObject({ id: bob.id, name: bob.name });
    expect(parsed(answer.friends) as unknown[]).toEqual([
      { id: ann.id, name: ann.name, state: "online" },
      { id: carl.id, name: carl.name, state: "offline" },
    ]);
    const [group, ...others] = parsed(answer.groups);
    expect(others).toEqual([]);
    expect(group).toMatchObject({ id: groupid!, groupname: "zhys", groupdesc: "zhy group" });
    expect(parsed(group!.users) as unknown[]).toEqual([
      { id: ann.id, name: ann.name, state: "online", role: "normal" },
      { id: bob.id, name: bob.name, state: "online", role: "creator" },
    ]);
    expect(parsed(answer.offlinemsg)).toMatchObject([
      { msgId: 1004, fromid: ann.id, id: ann.id, name: ann.name, toid: bob.id, msg: "hello" },
      { msgId: 1008, id: ann.id, name: ann.name, groupid: groupid!, msg: "hello group" },
    ]);
    for (const each of parsed(answer.offlinemsg)) expect(each.time).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
    // What is in the answer is not pushed, now or later.
    await write(bob, ["live"]);
    expect(await wire.next()).toMatchObject({ msgId: 1004, msg: "live" });
    wire.close();
    const again = await enter(bob, { takeover: true });
    expect(again.answer.offlinemsg).toEqual([]);
    again.close();
  });

  test("a client of another framing gets objects, and no offlinemsg", async () => {
    const bob = await register(server.port);
    await write(bob, ["hello"]);
    const wire = await Wire.connect(server.port, "lf");
    const answer = await wire.ask({ msgId: 1002, id: bob.id, password: bob.password });
    expect(answer).toMatchObject({ friends: [], groups: [], offline: 1 });
    expect(answer).not.toHaveProperty("offlinemsg");
    expect(await wire.next()).toMatchObject({ msgId: 1004, msg: "hello" });
    wire.close();
  });

  test("without the terminator at first, when it follows within 50 ms", async () => {
    const bob = await register(server.port);
    await until(async () => {
      const wire = await Wire.connect(server.port, "lf");
      wire.raw(JSON.stringify({ msgId: 1002, id: bob.id, password: bob.password, takeover: true }));
      await Bun.sleep(10);
      wire.raw("\0");
      const answer = await wire.next();
      wire.close();
      return wire.text.endsWith("}\0") && Array.isArray(answer.offlinemsg);
    }, "an answer for a NUL client");
  });

  test("an error is as everybody's, ended by NUL", async () => {
    const wire = await Wire.connect(server.port, "nul");
    wire.send({ msgId: 1002, id: ann.id, password: "wrong password" });
    expect(await wire.next()).toMatchObject({ msgId: 1003, errno: 3, errmsg: expect.any(String) });
    expect(wire.text).toEndWith("}\0");
    wire.close();
  });
});

describe("offlinemsg", () => {
  test("holds the first 100 messages; the rest are pushed behind, in order, and no message twice", async () => {
    const bob = await register(server.port);
    await write(bob, count(1, 100).map(String));
    const full = await enter(bob);
    expect(parsed(full.answer.offlinemsg).map(({ msg }) => msg)).toEqual(count(1, 100).map(String));
    await write(bob, ["end"]);
    expect(await full.next()).toMatchObject({ msg: "end" });
    full.send({ msgId: 1009 });
    await full.next();
    full.close();
    await write(bob, count(1, 500).map(String));
    const wire = await enter(bob);
    expect(wire.answer.offline).toBe(500);
    expect(parsed(wire.answer.offlinemsg).map(({ msg }) => msg)).toEqual(count(1, 100).map(String));
    for (const i of count(101, 500)) expect(await wire.next()).toMatchObject({ msgId: 1004, msg: `${i}` });
    await write(bob, ["end"]);
    expect(await wire.next()).toMatchObject({ msg: "end" });
    wire.close();
    const last = await enter(bob, { takeover: true });
    expect(last.answer.offlinemsg).toEqual([]);
    last.close();
  });

  test("holds messages alone: events come as pushes", async () => {
    const [bob, carl] = [await register(server.port), await register(server.port)];
    const carls = await login(server.port, carl);
    await carls.ask({ msgId: 1004, toid: bob.id, msg: "before" });
    await carls.ask({ msgId: 1005, friendId: bob.id, msg: "it is me" });
    await carls.ask({ msgId: 1004, toid: bob.id, msg: "behind" });
    const wire = await enter(bob);
    expect(wire.answer.offline).toBe(3);
    expect(parsed(wire.answer.offlinemsg).map(({ msg, seq }) => [msg, seq])).toEqual([
      ["before", 1],
      ["behind", 3],
    ]);
    expect(await wire.next()).toMatchObject({ msgId: 1005, id: carl.id, msg: "it is me", seq: 2 });
    await carls.ask({ msgId: 1004, toid: bob.id, msg: "live" });
    expect(await wire.next()).toMatchObject({ msgId: 1004, msg: "live", seq: 4 });
    wire.close();
    expect((await login(server.port, bob, { takeover: true })).answer.offline).toBe(0);
    carls.close();
  });

  test("what a confirming NUL client does not confirm comes again", async () => {
    const bob = await register(server.port);
    await write(bob, ["a", "b", "c"]);
    const first = await enter(bob, { confirm: true });
    const [, second] = parsed(first.answer.offlinemsg);
    first.send({ msgId: 1011, conv: second!.conv!, seq: second!.seq! });
    expect(await first.next()).toMatchObject({ ack: 1011, errno: 0 });
    first.send({ msgId: 1009 });
    await first.next();
    const again = await enter(bob, { confirm: true });
    expect(parsed(again.answer.offlinemsg).map(({ msg }) => msg)).toEqual(["c"]);
    first.close();
    again.close();
  });

  test("long texts: as many as go into one answer, the rest behind it", async () => {
    const bob = await register(server.port);
    const long = "é".repeat(30_000);
    await write(
      bob,
      count(1, 90).map((i) => `${i} ${long}`),
    );
    const wire = await enter(bob);
    const held = parsed(wire.answer.offlinemsg).map(({ msg }) => msg as string);
    const rest: string[] = [];
    while (held.length + rest.length < 90) rest.push((await wire.push(1004)).msg as string);
    expect([...held, ...rest].map((msg) => msg.split(" ")[0])).toEqual(count(1, 90).map(String));
    wire.close();
  });
});

describe("a chat of two NUL clients", () => {
  test("as the old test had it: what they send is not answered, what they get ends with NUL", async () => {
    const [bob, carl] = [await register(server.port), await register(server.port)];
    const [bobs, carls] = [await enter(bob), await enter(carl)];
    for (const i of count(1, 20)) {
      bobs.send({
        msgId: 1004,
        id: bob.id,
        name: bob.name,
        fromid: bob.id,
        toid: carl.id,
        msg: `hello ${i}`,
        time: "then",
      });
      expect(await carls.next()).toMatchObject({
        msgId: 1004,
        id: bob.id,
        name: bob.name,
        toid: carl.id,
        msg: `hello ${i}`,
      });
    }
    carls.send({ msgId: 1004, toid: bob.id, msg: "back" });
    expect(await bobs.next()).toMatchObject({ msgId: 1004, fromid: carl.id, msg: "back" });
    for (const wire of [bobs, carls]) {
      expect(wire.rest()).toEqual([]);
      expect(wire.text).toMatch(/^([^\n\0]*\0)+$/);
    }
    // A failed one is answered: nobody would know otherwise.
    bobs.send({ msgId: 1004, toid: 999_999, msg: "lost" });
    expect(await bobs.next()).toMatchObject({ msgId: 1010, ack: 1004, errno: 12 });
    bobs.close();
    carls.close();
  });
});

test("netcat: lines in, one line out for each, readable JSON with LF", async () => {
  const bob = await register(server.port);
  const terminal = new Terminal(server.port);
  terminal.type("hello?");
  expect(await terminal.read()).toMatchObject({ errno: 18 });
  terminal.type(`{"msgId":1002,"id":${bob.id},"password":"${bob.password}"}`);
  expect(await terminal.read()).toMatchObject({ msgId: 1003, errno: 0, friends: [] });
  await write(bob, ["two\nlines"]);
  expect(await terminal.read()).toMatchObject({ msgId: 1004, msg: "two\nlines" });
  terminal.type('{"msgId":1009}\r');
  expect(await terminal.read()).toMatchObject({ ack: 1009, errno: 0 });
  await terminal.close();
  expect(terminal.printed).toEqual([]);
});
