// Cursors: what each device has been delivered, and what therefore follows its next log-in.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { JsonObject } from "../../src/protocol.ts";
import { type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";

const file = join(temporaryFolder(), "chat.db");
let server: RunningServer;
let ann: User;
/** Ann's session: she writes. */
let writer: Wire;

beforeAll(async () => {
  server = await startServer(file);
  ann = await register(server.port);
  writer = await login(server.port, ann);
});

afterAll(() => server.stop());

const conv = (user: User): string => `u:${Math.min(ann.id, user.id)}-${Math.max(ann.id, user.id)}`;

async function write(to: User, ...texts: string[]): Promise<void> {
  for (const msg of texts) expect(await writer.ask({ msgId: 1004, toid: to.id, msg })).toMatchObject({ errno: 0 });
}

/** The texts of the next pushes. */
async function read(on: Wire, count: number): Promise<string[]> {
  const texts: string[] = [];
  for (let i = 0; i < count; i++) texts.push((await on.push(1004)).msg as string);
  return texts;
}

const enter = (user: User, device: string, fields: JsonObject = {}) => login(server.port, user, { device, ...fields });

/** Logs out, so that the positions are saved. */
async function leave(wire: Wire): Promise<void> {
  expect(await wire.ask({ msgId: 1009 })).toMatchObject({ errno: 0 });
  wire.close();
}

describe("without confirm", () => {
  test("what was written to the socket is not pushed again; what came meanwhile is, and counted", async () => {
    const bob = await register(server.port);
    await write(bob, "a", "b");
    const first = await enter(bob, "");
    expect(first.answer.offline).toBe(2);
    expect(await read(first, 2)).toEqual(["a", "b"]);
    await write(bob, "c");
    expect(await read(first, 1)).toEqual(["c"]);
    await leave(first);
    await write(bob, "d", "e");
    const second = await enter(bob, "");
    expect(second.answer.offline).toBe(2);
    expect(await read(second, 2)).toEqual(["d", "e"]);
    second.close();
    await write(bob, "f");
    const third = await enter(bob, "", { takeover: true });
    expect(third.answer.offline).toBe(1);
    expect(await read(third, 1)).toEqual(["f"]);
    third.close();
  });

  test("the last read of a connection that is reset is not pushed again", async () => {
    const bob = await register(server.port);
    for (let i = 0; i < 10; i++) {
      const wire = await enter(bob, "", { takeover: true });
      expect(wire.answer.offline).toBe(i === 0 ? 0 : 1);
      if (i > 0) expect(await read(wire, 1)).toEqual([`stored ${i - 1}`]);
      await write(bob, `live ${i}`);
      expect(await read(wire, 1)).toEqual([`live ${i}`]);
      wire.close();
      await write(bob, `stored ${i}`);
    }
  });
});

describe("with confirm", () => {
  test("what is not confirmed comes again at every log-in, what is confirmed does not", async () => {
    const bob = await register(server.port);
    await write(bob, "a", "b", "c", "d");
    for (let i = 0; i < 2; i++) {
      const wire = await enter(bob, "", { confirm: true });
      expect(wire.answer.offline).toBe(4);
      expect(await read(wire, 4)).toEqual(["a", "b", "c", "d"]);
      await leave(wire);
    }
    const wire = await enter(bob, "", { confirm: true });
    await read(wire, 4);
    expect(await wire.ask({ msgId: 1011, conv: conv(bob), seq: 2 })).toMatchObject({ errno: 0, ack: 1011 });
    // Back is not forward.
    expect(await wire.ask({ msgId: 1011, conv: conv(bob), seq: 1 })).toMatchObject({ errno: 0 });
    wire.close();
    const next = await enter(bob, "", { confirm: true, takeover: true });
    expect(next.answer.offline).toBe(2);
    expect(await read(next, 2)).toEqual(["c", "d"]);
    expect(await next.ask({ msgId: 1011, conv: conv(bob), seq: 4 })).toMatchObject({ errno: 0 });
    next.close();
    const last = await enter(bob, "", { confirm: true, takeover: true });
    expect(last.answer.offline).toBe(0);
    await write(bob, "e");
    expect(await read(last, 1)).toEqual(["e"]);
    last.close();
  });

  test("a confirmation above what was pushed is 14; what was confirmed may be confirmed again", async () => {
    const [bob, stranger] = [await register(server.port), await register(server.port)];
    await write(bob, "a", "b");
    const wire = await enter(bob, "", { confirm: true });
    const confirm = (seq: number, of = conv(bob)) => wire.ask({ msgId: 1011, conv: of, seq });
    await read(wire, 2);
    expect(await confirm(3)).toMatchObject({ errno: 14, field: "seq" });
    expect(await confirm(2)).toMatchObject({ errno: 0 });
    expect(await confirm(2)).toMatchObject({ errno: 0 });
    expect(await confirm(1, conv(stranger))).toMatchObject({ errno: 14 });
    expect(await confirm(1, "u:900-901")).toMatchObject({ errno: 14 });
    expect(await confirm(1, "g:900")).toMatchObject({ errno: 14 });
    await leave(wire);
    // In the next session, which is pushed nothing of it.
    const again = await enter(bob, "", { confirm: true });
    expect(again.answer.offline).toBe(0);
    for (const seq of [2, 1])
      expect(await again.ask({ msgId: 1011, conv: conv(bob), seq })).toMatchObject({ errno: 0 });
    expect(await again.ask({ msgId: 1011, conv: conv(bob), seq: 3 })).toMatchObject({ errno: 14, field: "seq" });
    again.close();
  });

  test("one's own messages in between neither come back nor hold the cursor", async () => {
    const bob = await register(server.port);
    const wire = await enter(bob, "", { confirm: true });
    const answer = (msg: string) => wire.ask({ msgId: 1004, toid: ann.id, msg });
    await answer("own 1");
    await write(bob, "two");
    await answer("own 3");
    await write(bob, "four");
    await answer("own 5");
    expect([await wire.push(1004), await wire.push(1004)]).toMatchObject([
      { seq: 2, msg: "two" },
      { seq: 4, msg: "four" },
    ]);
    await wire.ask({ msgId: 1011, conv: conv(bob), seq: 2 });
    await leave(wire);
    const second = await enter(bob, "", { confirm: true });
    expect(second.answer.offline).toBe(1);
    expect(await second.push(1004)).toMatchObject({ seq: 4 });
    await second.ask({ msgId: 1011, conv: conv(bob), seq: 4 });
    await leave(second);
    const third = await enter(bob, "", { confirm: true });
    expect(third.answer.offline).toBe(0);
    await write(bob, "six");
    expect(await third.push(1004)).toMatchObject({ seq: 6 });
    third.close();
  });

  test("1011 of a session without confirm is answered and moves nothing back", async () => {
    const bob = await register(server.port);
    await write(bob, "a", "b");
    const wire = await enter(bob, "");
    await read(wire, 2);
    expect(await wire.ask({ msgId: 1011, conv: conv(bob), seq: 1 })).toMatchObject({ errno: 0 });
    await leave(wire);
    expect((await enter(bob, "")).answer.offline).toBe(0);
  });
});

describe("several devices", () => {
  test("each has its own cursor, and each online one gets every push", async () => {
    const bob = await register(server.port);
    const [phone, desk] = [await enter(bob, "phone"), await enter(bob, "desk")];
    await write(bob, "a");
    expect([await read(phone, 1), await read(desk, 1)]).toEqual([["a"], ["a"]]);
    await leave(desk);
    await write(bob, "b");
    expect(await read(phone, 1)).toEqual(["b"]);
    await leave(phone);
    await write(bob, "c");
    const deskAgain = await enter(bob, "desk");
    expect(deskAgain.answer.offline).toBe(2);
    expect(await read(deskAgain, 2)).toEqual(["b", "c"]);
    const phoneAgain = await enter(bob, "phone");
    expect(phoneAgain.answer.offline).toBe(1);
    expect(await read(phoneAgain, 1)).toEqual(["c"]);
    deskAgain.close();
    phoneAgain.close();
  });

  test("a new device starts where the most advanced one stands, and gets what nobody has received", async () => {
    const bob = await register(server.port);
    const slow = await enter(bob, "slow", { confirm: true });
    const ahead = await enter(bob, "ahead", { confirm: true });
    await write(bob, "a", "b", "c", "d");
    await read(slow, 4);
    await read(ahead, 4);
    await slow.ask({ msgId: 1011, conv: conv(bob), seq: 1 });
    await ahead.ask({ msgId: 1011, conv: conv(bob), seq: 3 });
    // Also while the others are online and nothing was saved for want of time.
    const fresh = await enter(bob, "new");
    expect(fresh.answer.offline).toBe(1);
    expect(await read(fresh, 1)).toEqual(["d"]);
    await leave(slow);
    expect((await enter(bob, "slow")).answer.offline).toBe(3);
    for (const wire of [ahead, fresh]) wire.close();
  });

  test("one's own messages reach the other devices, never the one that sent them, also later", async () => {
    const bob = await register(server.port);
    const [phone, desk, away] = [await enter(bob, "phone"), await enter(bob, "desk"), await enter(bob, "away")];
    await leave(away);
    await phone.ask({ msgId: 1004, toid: ann.id, msg: "from the phone", mid: "m" });
    await desk.ask({ msgId: 1004, toid: ann.id, msg: "from the desk" });
    expect(await desk.push(1004)).toMatchObject({
      msg: "from the phone",
      id: bob.id,
      fromid: bob.id,
      toid: ann.id,
      mid: "m",
    });
    expect(await phone.push(1004)).toMatchObject({ msg: "from the desk", seq: 2 });
    const back = await enter(bob, "away");
    expect(back.answer.offline).toBe(2);
    expect(await read(back, 2)).toEqual(["from the phone", "from the desk"]);
    await write(bob, "end");
    for (const wire of [phone, desk, back]) expect(await wire.push(1004)).toMatchObject({ msg: "end", seq: 3 });
    await leave(phone);
    expect((await enter(bob, "phone")).answer.offline).toBe(0);
    for (const wire of [desk, back]) wire.close();
  });

  test("to oneself: to the other devices", async () => {
    const bob = await register(server.port);
    const [phone, desk] = [await enter(bob, "phone"), await enter(bob, "desk")];
    expect(await phone.ask({ msgId: 1004, toid: bob.id, msg: "note", mid: "m" })).toMatchObject({ errno: 0, seq: 1 });
    expect(await desk.push(1004)).toMatchObject({
      msg: "note",
      toid: bob.id,
      fromid: bob.id,
      conv: `u:${bob.id}-${bob.id}`,
    });
    await desk.ask({ msgId: 1004, toid: bob.id, msg: "back" });
    expect(await phone.push(1004)).toMatchObject({ msg: "back", seq: 2 });
    phone.close();
    desk.close();
  });

  test("device names compare by characters: another case is another device, another normal form is not", async () => {
    const bob = await register(server.port);
    const wires = [await enter(bob, "é"), await enter(bob, "É")];
    await expect(enter(bob, "e\u0301")).rejects.toThrow('"errno":2');
    for (const wire of wires) wire.close();
  });
});

test("more devices than are remembered, online together: none is forgotten, each gets everything", async () => {
  const user = await register(server.port);
  const { token } = (await login(server.port, user)).answer;
  const wires = await Promise.all(Array.from({ length: 140 }, () => Wire.connect(server.port)));
  const answers = await Promise.all(
    wires.map((wire, i) => wire.ask({ msgId: 1002, id: user.id, token: token as string, device: `d${i}` })),
  );
  expect(answers.filter(({ errno }) => errno !== 0)).toEqual([]);
  await write(user, "first");
  for (const wire of wires) expect(await read(wire, 1)).toEqual(["first"]);
  // When the positions of a device that is forgotten are saved, its session ends.
  const db = new Database(file, { readonly: true });
  const saved = db.query(
    "SELECT count(*) AS count FROM cursor WHERE device IN (SELECT id FROM device WHERE user_id = ?)",
  );
  await until(() => (saved.get(user.id) as { count: number }).count >= wires.length, "the positions are saved");
  db.close();
  await write(user, "second");
  for (const wire of wires) expect(await read(wire, 1)).toEqual(["second"]);
  for (const wire of wires) wire.close();
}, 60_000);
