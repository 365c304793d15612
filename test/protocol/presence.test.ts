// Presence: who lists a user and is online is told of the user's first session's start and last session's end.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";

let server: RunningServer;

beforeAll(async () => {
  server = await startServer(`${temporaryFolder()}/chat.db`);
});

afterAll(() => server.stop());

type Session = Wire & { answer: { [field: string]: unknown } };

/** A session of a user who lists `friends`. */
async function follower(...friends: User[]): Promise<Session> {
  const wire = await login(server.port, await register(server.port));
  for (const friend of friends)
    expect(await wire.ask({ msgId: 1005, friendId: friend.id })).toMatchObject({ errno: 0 });
  return wire;
}

const leave = async (wire: Wire): Promise<void> => {
  await wire.ask({ msgId: 1009 });
  wire.close();
};

test("online at the first session's start, offline at the last one's end, whatever its end is", async () => {
  const bob = await register(server.port);
  const wire = await follower(bob);
  const ends: ((session: Wire) => unknown)[] = [
    (session) => session.ask({ msgId: 1009 }),
    (session) => session.close(),
    (session) => session.halfClose(),
  ];
  for (const end of ends) {
    const session = await login(server.port, bob, { takeover: true });
    expect(await wire.next()).toEqual({ msgId: 1021, id: bob.id, state: "online" });
    await end(session);
    expect(await wire.next()).toEqual({ msgId: 1021, id: bob.id, state: "offline" });
  }
  wire.close();
});

test("not for further devices, takeovers, refused log-ins, or heartbeats", async () => {
  const bob = await register(server.port);
  const wire = await follower(bob);
  const phone = await login(server.port, bob, { device: "phone" });
  expect(await wire.push(1021)).toMatchObject({ state: "online" });
  const desk = await login(server.port, bob, { device: "desk" });
  const taken = await login(server.port, bob, { device: "phone", takeover: true });
  await phone.whenEnded();
  await expect(login(server.port, bob, { device: "desk" })).rejects.toThrow('"errno":2');
  await taken.settle();
  await leave(desk);
  // Of all that, nothing is told: the next push is the end of the last session.
  await leave(taken);
  expect(await wire.next()).toEqual({ msgId: 1021, id: bob.id, state: "offline" });
  wire.close();
});

test("only to those who list the user: not back, not to those in the same group, not to strangers", async () => {
  const bob = await register(server.port);
  const wire = await follower(bob);
  const others = [await follower(), await follower()];
  const bobsFirst = await login(server.port, bob);
  await bobsFirst.ask({ msgId: 1005, friendId: others[0]!.answer.id as number });
  const { groupid } = await bobsFirst.ask({ msgId: 1006, groupname: "g" });
  await others[1]!.ask({ msgId: 1007, groupid: groupid! });
  await leave(bobsFirst);
  const bobs = await login(server.port, bob);
  const states = [await wire.push(1021), await wire.push(1021), await wire.push(1021)].map(({ state }) => state);
  expect(states).toEqual(["online", "offline", "online"]);
  for (const other of others) {
    await bobs.ask({ msgId: 1004, toid: other.answer.id as number, msg: "end" });
    await other.push(1004);
    expect(other.received.filter(({ msgId }) => msgId === 1021)).toEqual([]);
  }
  // Bob does not list the follower.
  await leave(wire);
  const again = await login(server.port, await register(server.port));
  await again.ask({ msgId: 1004, toid: bob.id, msg: "end" });
  await bobs.push(1004);
  expect(bobs.received.filter(({ msgId }) => msgId === 1021)).toEqual([]);
  for (const each of [bobs, again, ...others]) each.close();
});

test("to every device of those who list the user, and to those who listed them after they went online", async () => {
  const bob = await register(server.port);
  const bobs = await login(server.port, bob);
  const ann = await register(server.port);
  const wires = [await login(server.port, ann, { device: "1" }), await login(server.port, ann, { device: "2" })];
  expect((await wires[0]!.ask({ msgId: 1005, friendId: bob.id })).friend).toMatchObject({ state: "online" });
  await leave(bobs);
  for (const wire of wires) expect(await wire.push(1021)).toEqual({ msgId: 1021, id: bob.id, state: "offline" });
  for (const wire of wires) wire.close();
});

test("lists say the same as the pushes", async () => {
  const bob = await register(server.port);
  const wire = await follower(bob);
  const { groupid } = await wire.ask({ msgId: 1006, groupname: "g" });
  const bobs = await login(server.port, bob);
  await bobs.ask({ msgId: 1007, groupid: groupid! });
  const states = async () => {
    const { friends } = await wire.ask({ msgId: 1014 });
    const { users } = await wire.ask({ msgId: 1015, groupid: groupid! });
    const { groups } = await wire.ask({ msgId: 1015 });
    const lists = [friends, users, (groups as { users: unknown }[])[0]!.users] as { id: number; state: string }[][];
    return lists.map((list) => list.find(({ id }) => id === bob.id)!.state);
  };
  await wire.push(1021);
  expect(await states()).toEqual(["online", "online", "online"]);
  await leave(bobs);
  await wire.push(1021);
  expect(await states()).toEqual(["offline", "offline", "offline"]);
  wire.close();
});

test("of quick changes back and forth, the last word is right", async () => {
  const bob = await register(server.port);
  const wire = await follower(bob);
  for (let round = 0; round < 10; round++) {
    const state = round % 2 === 0 ? "online" : "offline";
    for (let i = 0; i < 5; i++) {
      const bobs = await login(server.port, bob, { takeover: true });
      if (i < 4 || state === "offline") await leave(bobs);
    }
    await until(() => wire.received.at(-1)?.state === state, `the last word is ${state}`);
    wire.rest();
  }
  wire.close();
});

test("log-ins that break off leave nobody online, in no list and for no follower", async () => {
  // Scenario: a client disconnects at some stage of its log-in, while somebody who lists its user reads the list.
  const bob = await register(server.port);
  const first = await login(server.port, bob);
  const token = first.answer.token!;
  await leave(first);
  const wire = await follower(bob);
  for (let round = 0; round < 60; round++) {
    const breaking = await Wire.connect(server.port);
    breaking.send({ msgId: 1002, id: bob.id, token, takeover: true });
    for (let i = 0; i < 12; i++) {
      wire.send({ msgId: 1014, reqId: i });
      if (i === round % 12) breaking.close();
      await new Promise((done) => setImmediate(done));
    }
    let state = "offline";
    let answered = false;
    await until(() => {
      for (const message of wire.rest()) {
        if (message.msgId === 1021) state = message.state as string;
        if (message.ack === 1014) state = (message.friends as { state: string }[])[0]!.state;
        answered ||= message.reqId === 11;
      }
      return answered && state === "offline";
    }, "offline");
  }
  wire.close();
});
