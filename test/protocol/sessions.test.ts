// Sessions: one for each (user, device), how they begin, are taken over, and end.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { JsonObject } from "../../src/protocol.ts";
import { type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";

let server: RunningServer;
let ann: User;
/** Ann's session: she writes. */
let writer: Wire;

beforeAll(async () => {
  server = await startServer(`${temporaryFolder()}/chat.db`);
  ann = await register(server.port);
  writer = await login(server.port, ann);
});

afterAll(() => server.stop());

const write = (to: User, msg: string) => writer.ask({ msgId: 1004, toid: to.id, msg });
const attempt = (wire: Wire, user: User, fields: JsonObject = {}) =>
  wire.ask({ msgId: 1002, id: user.id, password: user.password, ...fields });

describe("one session per user and device", () => {
  test("a second log-in for the same pair is error 2, and the first goes on", async () => {
    const bob = await register(server.port);
    const first = await login(server.port, bob, { device: "phone" });
    const second = await Wire.connect(server.port);
    expect(await attempt(second, bob, { device: "phone" })).toMatchObject({ msgId: 1003, errno: 2 });
    expect(await attempt(second, bob, { device: "phone", takeover: false })).toMatchObject({ errno: 2 });
    await write(bob, "to the first");
    expect(await first.push(1004)).toMatchObject({ msg: "to the first" });
    // The refused connection stays, and may be another device.
    expect(await attempt(second, bob, { device: "desk" })).toMatchObject({ errno: 0 });
    expect(await attempt(await Wire.connect(server.port), bob)).toMatchObject({ errno: 0 });
    first.close();
    second.close();
  });

  test("a connection that is gone is in nobody's way", async () => {
    const bob = await register(server.port);
    let wire: Wire = await login(server.port, bob);
    for (let i = 0; i < 6; i++) {
      if (i % 2 === 0) wire.close();
      else wire.halfClose();
      await until(async () => {
        const next = await Wire.connect(server.port);
        const { errno } = await attempt(next, bob);
        if (errno === 0) wire = next;
        else next.close();
        return errno === 0;
      }, "the next log-in");
    }
    wire.close();
  });

  test("nor is one that breaks off in the middle of its log-in", async () => {
    const bob = await register(server.port);
    for (let round = 0; round < 30; round++) {
      const breaking = await Wire.connect(server.port);
      breaking.send({ msgId: 1002, id: bob.id, password: bob.password });
      await Bun.sleep(round % 6);
      breaking.close();
      const wire = await Wire.connect(server.port);
      await until(async () => (await attempt(wire, bob)).errno === 0, "the next log-in", 1_000);
      await wire.ask({ msgId: 1009 });
      wire.close();
    }
  });

  test("log-ins at the same time: one of them wins", async () => {
    const bob = await register(server.port);
    const wires = await Promise.all(Array.from({ length: 10 }, () => Wire.connect(server.port)));
    const answers = await Promise.all(wires.map((wire) => attempt(wire, bob)));
    expect(answers.map(({ errno }) => errno).toSorted()).toEqual([0, ...Array(9).fill(2)]);
    for (const wire of wires) wire.close();
  });
});

describe("takeover", () => {
  test("the old session gets notice 21 and is closed; the new one is pushed what follows", async () => {
    const bob = await register(server.port);
    const old = await login(server.port, bob);
    await write(bob, "one");
    expect(await old.push(1004)).toMatchObject({ msg: "one" });
    const taken = await login(server.port, bob, { takeover: true });
    expect(taken.answer.offline).toBe(0);
    await old.whenEnded();
    expect(old.rest()).toMatchObject([{ msgId: 1028, errno: 21, errmsg: expect.any(String) }]);
    await write(bob, "two");
    expect(await taken.push(1004)).toMatchObject({ msg: "two", seq: 2 });
    taken.close();
  });

  test("the other devices stay; without an old session it is a log-in like others", async () => {
    const bob = await register(server.port);
    const desk = await login(server.port, bob, { device: "desk" });
    const phone = await login(server.port, bob, { device: "phone", takeover: true });
    await desk.settle();
    await phone.settle();
    expect(desk.rest()).toEqual([]);
    desk.close();
    phone.close();
  });

  test("not with a wrong password", async () => {
    const bob = await register(server.port);
    const first = await login(server.port, bob);
    const second = await Wire.connect(server.port);
    expect(await attempt(second, bob, { password: "wrong password", takeover: true })).toMatchObject({ errno: 3 });
    await first.settle();
    first.close();
    second.close();
  });

  test("what the old session had asked for is answered before it ends", async () => {
    const bob = await register(server.port);
    const old = await login(server.port, bob);
    const taker = await Wire.connect(server.port);
    const taken = attempt(taker, bob, { takeover: true });
    let sent = 0;
    while (!old.ended) {
      const from = sent;
      sent += 100;
      old.send(
        ...Array.from({ length: 100 }, (_, i) => ({
          msgId: 1004,
          toid: ann.id,
          msg: `${from + i + 1}`,
          reqId: from + i + 1,
        })),
      );
      await Bun.sleep(0);
    }
    expect(await taken).toMatchObject({ errno: 0 });
    const answers = old.rest();
    expect(answers.at(-1)).toMatchObject({ msgId: 1028, errno: 21 });
    expect(answers.slice(0, -1).map(({ seq }) => seq)).toEqual(
      Array.from({ length: answers.length - 1 }, (_, i) => i + 1),
    );
    // Stored is what was answered: the next one takes the next place.
    const next = await taker.ask({ msgId: 1004, toid: ann.id, msg: "next" });
    expect(next.seq).toBe(answers.length);
    taker.close();
  });

  test("a crowd that takes over one device: the last one stays, and is pushed everything once", async () => {
    const bob = await register(server.port);
    const conv = { seen: new Set<number>(), messages: 0 };
    let writing = true;
    const storm = (async () => {
      while (writing) {
        await write(bob, "x");
        conv.messages++;
      }
    })();
    const wires: Wire[] = [];
    for (let round = 0; round < 10; round++) {
      const crowd = await Promise.all(Array.from({ length: 5 }, () => Wire.connect(server.port)));
      for (const each of await Promise.all(crowd.map((wire) => attempt(wire, bob, { takeover: true }))))
        expect([0, 21]).toContain(each.errno as number);
      wires.push(...crowd);
    }
    writing = false;
    await storm;
    const alive = () => wires.filter((wire) => !wire.ended);
    await until(() => alive().length === 1, "one session that is left");
    const last = alive()[0]!;
    await write(bob, "end");
    for (let end = false; !end; ) {
      const push = await last.push(1004);
      end = push.msg === "end";
      conv.seen.add(push.seq as number);
    }
    for (const wire of wires) {
      if (wire === last) continue;
      const pushes = wire.rest();
      expect(pushes.at(-1)).toMatchObject({ msgId: 1028, errno: 21 });
      for (const { msgId, seq } of pushes) {
        if (msgId !== 1004) continue;
        expect(conv.seen.has(seq as number)).toBe(false);
        conv.seen.add(seq as number);
      }
    }
    expect(conv.seen.size).toBe(conv.messages + 1);
    last.close();
  });
});

describe("the sender is the session", () => {
  test("whatever the request says: 11", async () => {
    const bob = await register(server.port);
    const wire = await login(server.port, bob);
    for (const request of [
      { msgId: 1004, fromid: ann.id, toid: ann.id, msg: "x" },
      { msgId: 1005, id: ann.id, friendId: ann.id },
      { msgId: 1006, id: ann.id, groupname: "x" },
      { msgId: 1007, id: ann.id, groupid: 1 },
      { msgId: 1008, id: ann.id, groupid: 1, msg: "x" },
      { msgId: 1009, id: ann.id },
    ])
      expect(await wire.ask(request)).toMatchObject({ errno: 11, errmsg: expect.stringContaining(`${bob.id}`) });
    await wire.settle();
    wire.close();
  });
});

describe("log-out", () => {
  test("the connection stays and may log in again, also as somebody else", async () => {
    const [bob, carl] = [await register(server.port), await register(server.port)];
    const wire = await login(server.port, bob);
    expect(await wire.ask({ msgId: 1009, id: bob.id })).toMatchObject({ errno: 0, ack: 1009 });
    expect(await wire.ask({ msgId: 1014 })).toMatchObject({ errno: 10 });
    expect(await wire.ask({ msgId: 1009 })).toMatchObject({ errno: 10 });
    await write(bob, "while away");
    expect(await attempt(wire, carl)).toMatchObject({ errno: 0, id: carl.id });
    await write(carl, "for carl");
    expect(await wire.push(1004)).toMatchObject({ msg: "for carl", toid: carl.id });
    await wire.ask({ msgId: 1009 });
    expect(await attempt(wire, bob)).toMatchObject({ errno: 0, id: bob.id, offline: 1 });
    expect(await wire.push(1004)).toMatchObject({ msg: "while away" });
    wire.close();
  });

  test("in the middle of a stream of pushes: nothing behind its answer, nothing lost or doubled", async () => {
    const bob = await register(server.port);
    let writing = true;
    let written = 0;
    const storm = (async () => {
      while (writing) {
        await write(bob, "x");
        written++;
      }
    })();
    const wire = await login(server.port, bob);
    let last = 0;
    for (let round = 0; round < 20; round++) {
      await until(() => wire.received.length > 5, "pushes");
      await wire.ask({ msgId: 1009 });
      wire.send({ msgId: 1012, reqId: "anonymous" });
      await until(() => wire.received.at(-1)?.reqId === "anonymous", "the heartbeat, with nothing behind it");
      const before = wire.rest();
      for (const { msgId, seq } of before) if (msgId === 1004) expect(seq).toBe(++last);
      expect(await attempt(wire, bob)).toMatchObject({ errno: 0 });
    }
    writing = false;
    await storm;
    while (last < written) expect((await wire.push(1004)).seq).toBe(++last);
    wire.close();
  });

  test("in one pipeline with the log-ins around it", async () => {
    const bob = await register(server.port);
    const wire = await Wire.connect(server.port);
    const enter = { msgId: 1002, id: bob.id, password: bob.password };
    wire.send(enter, { msgId: 1004, toid: ann.id, msg: "1" }, { msgId: 1009 }, enter, { msgId: 1009 }, enter, enter);
    expect([
      await wire.next(),
      await wire.next(),
      await wire.next(),
      await wire.next(),
      await wire.next(),
      await wire.next(),
    ]).toMatchObject([{ errno: 0 }, { ack: 1009, errno: 0 }, { errno: 0 }, { ack: 1009 }, { errno: 0 }, { errno: 13 }]);
    wire.close();
  });
});

test("a half-closed session is pushed all that is stored for it, then the server ends", async () => {
  const bob = await register(server.port);
  const text = "x".repeat(5_000);
  for (let i = 0; i < 1_000; i++) writer.send({ msgId: 1004, toid: bob.id, msg: text, reqId: i });
  await writer.next(({ reqId }) => reqId === 999);
  writer.rest();
  const wire = await Wire.connect(server.port);
  wire.send({ msgId: 1002, id: bob.id, password: bob.password });
  wire.halfClose();
  await wire.whenEnded(20_000);
  const [answer, ...pushes] = wire.rest();
  expect(answer).toMatchObject({ msgId: 1003, offline: 1_000 });
  expect(pushes.map(({ seq }) => seq)).toEqual(Array.from({ length: 1_000 }, (_, i) => i + 1));
});
