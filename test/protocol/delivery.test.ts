// What delivery means: acknowledged is stored, sent once is stored once, and each conversation comes in its order.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol.ts";
import { type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, type Wire } from "../wire.ts";

let server: RunningServer;
let ann: User;
/** Ann's session. */
let wire: Wire;

beforeAll(async () => {
  server = await startServer(`${temporaryFolder()}/chat.db`);
  ann = await register(server.port);
  wire = await login(server.port, ann);
});

afterAll(() => server.stop());

const count = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Sends texts in one pipeline and waits until the last is stored. */
async function sendAll(from: Wire, toid: number, texts: string[]): Promise<void> {
  from.send(...texts.map((msg, i) => ({ msgId: 1004, toid, msg, reqId: i === texts.length - 1 ? "last" : `${i}` })));
  for (let stored = false; !stored; ) {
    const answer = await from.next(({ ack }) => ack === 1004);
    expect(answer.errno).toBe(0);
    stored = answer.reqId === "last";
  }
}

describe("sent once, stored once", () => {
  test("a resend is answered with the first one's seq and time, whoever asks for it and how often", async () => {
    const bob = await register(server.port);
    const reader = await login(server.port, bob);
    const message = { msgId: 1004, toid: bob.id, msg: "once", mid: "a" };
    const first = await wire.ask(message);
    await wire.ask({ ...message, msg: "in between", mid: "b" });
    const elsewhere = await login(server.port, ann, { device: "elsewhere" });
    for (const on of [wire, elsewhere, wire])
      expect(await on.ask(message)).toMatchObject({ errno: 0, mid: "a", seq: 1, time: first.time!, ts: first.ts! });
    await wire.ask({ ...message, msg: "end", mid: "c" });
    expect([await reader.push(1004), await reader.push(1004), await reader.push(1004)]).toMatchObject([
      { seq: 1, msg: "once", mid: "a" },
      { seq: 2, msg: "in between" },
      { seq: 3, msg: "end" },
    ]);
    reader.close();
    elsewhere.close();
  });

  test("in one pipeline, and from two connections at once", async () => {
    const bob = await register(server.port);
    const reader = await login(server.port, bob);
    const elsewhere = await login(server.port, ann, { device: "at once" });
    const message = (mid: string) => ({ msgId: 1004, toid: bob.id, msg: `text ${mid}`, mid });
    const mids = count(1, 200).flatMap((i) => [`${i}`, `${i}`, `${Math.max(1, i - 5)}`]);
    for (const on of [wire, elsewhere]) on.send(...mids.map(message));
    const seqs = new Map<string, Set<number>>();
    for (const on of [wire, elsewhere])
      for (const expected of mids) {
        const { errno, mid, seq } = await on.next(({ ack }) => ack === 1004);
        expect({ errno, mid }).toEqual({ errno: 0, mid: expected });
        seqs.set(expected, (seqs.get(expected) ?? new Set()).add(seq as number));
      }
    expect([...seqs.values()].map((each) => each.size)).toEqual(Array(200).fill(1));
    const arrived: [string, number][] = [];
    for (let i = 1; i <= 200; i++) {
      const { mid, seq } = await reader.push(1004);
      expect(seq).toBe(i);
      arrived.push([mid as string, seq as number]);
    }
    expect(new Map(arrived)).toEqual(new Map([...seqs].map(([mid, [seq]]) => [mid, seq!])));
    await wire.ask(message("end"));
    expect(await reader.push(1004)).toMatchObject({ seq: 201, mid: "end" });
    reader.close();
    elsewhere.close();
  });

  test("the same mid with another msg: 14, field mid, and nothing is stored", async () => {
    const bob = await register(server.port);
    await wire.ask({ msgId: 1004, toid: bob.id, msg: "one", mid: "a" });
    expect(await wire.ask({ msgId: 1004, toid: bob.id, msg: "other", mid: "a" })).toMatchObject({
      errno: 14,
      field: "mid",
      mid: "a",
    });
    wire.send(
      { msgId: 1004, toid: bob.id, msg: "two", mid: "b" },
      { msgId: 1004, toid: bob.id, msg: "other", mid: "b" },
    );
    expect(await wire.next()).toMatchObject({ errno: 0, seq: 2 });
    expect(await wire.next()).toMatchObject({ errno: 14, field: "mid" });
    expect(await wire.ask({ msgId: 1004, toid: bob.id, msg: "three" })).toMatchObject({ seq: 3 });
  });

  test("a mid is its sender's own, and its conversation's; mids compare by bytes", async () => {
    const [bob, carl] = [await register(server.port), await register(server.port)];
    const bobs = await login(server.port, bob);
    const send = (on: Wire, toid: number, mid: string) => on.ask({ msgId: 1004, toid, msg: mid, mid });
    expect(await send(wire, bob.id, "a")).toMatchObject({ errno: 0, seq: 1 });
    expect(await send(bobs, ann.id, "a")).toMatchObject({ errno: 0, seq: 2 });
    expect(await send(wire, carl.id, "a")).toMatchObject({ errno: 0, seq: 1 });
    for (const [i, mid] of ["A", "a ", "a\u0000b", "a\u0000c", "é", "e\u0301", "\u0000"].entries())
      expect(await send(wire, bob.id, mid)).toMatchObject({ errno: 0, mid, seq: 3 + i });
    bobs.close();
  });

  test("a group's messages too", async () => {
    const { groupid } = await wire.ask({ msgId: 1006, groupname: "g" });
    const message = { msgId: 1008, groupid: groupid!, msg: "once", mid: "a" };
    const first = await wire.ask(message);
    expect(await wire.ask(message)).toMatchObject({ errno: 0, ack: 1008, seq: 1, time: first.time! });
    expect(await wire.ask({ ...message, msg: "other" })).toMatchObject({ errno: 14, field: "mid" });
  });
});

describe("order", () => {
  test("stored messages and live ones are one ascending sequence without gaps, in every conversation", async () => {
    const bob = await register(server.port);
    const writers = await Promise.all(count(1, 3).map(async () => login(server.port, await register(server.port))));
    const write = async (on: Wire, rounds: number, from: number) => {
      for (let round = 0; round < rounds; round++)
        await sendAll(
          on,
          bob.id,
          count(1, 50).map((i) => `${from + round * 50 + i}`),
        );
    };
    await Promise.all(writers.map((writer) => write(writer, 20, 0)));
    const writing = Promise.all(writers.map((writer) => write(writer, 20, 1000)));
    const reader = await login(server.port, bob);
    expect(reader.answer.offline as number).toBeGreaterThanOrEqual(3000);
    await writing;
    const seen = new Map<number, number>();
    for (let i = 0; i < 6000; i++) {
      const { seq, msg, fromid } = await reader.push(1004);
      const expected = (seen.get(fromid as number) ?? 0) + 1;
      expect({ seq, msg }).toEqual({ seq: expected, msg: `${expected}` });
      seen.set(fromid as number, expected);
    }
    for (const each of [...writers, reader]) each.close();
  });

  test("the backlog is oldest first over all conversations", async () => {
    const bob = await register(server.port);
    const writers = await Promise.all(count(1, 3).map(async () => login(server.port, await register(server.port))));
    for (const i of count(0, 29)) await sendAll(writers[(i * i) % 3]!, bob.id, [`${i}`]);
    const reader = await login(server.port, bob);
    const times: number[] = [];
    for (const _ of count(0, 29)) times.push((await reader.push(1004)).ts as number);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    for (const each of [...writers, reader]) each.close();
  });

  test("a reader that pauses gets everything, and holds nobody else up", async () => {
    const [bob, carl] = [await register(server.port), await register(server.port)];
    const [slow, quick] = [await login(server.port, bob), await login(server.port, carl)];
    slow.pause();
    const long = "x".repeat(2000);
    for (let round = 0; round < 20; round++) {
      await sendAll(
        wire,
        bob.id,
        count(1, 200).map((i) => `${round * 200 + i} ${long}`),
      );
      await sendAll(wire, carl.id, [`${round}`]);
      expect(await quick.push(1004)).toMatchObject({ msg: `${round}` });
    }
    slow.resume();
    for (const i of count(1, 4000)) {
      const { seq, msg } = await slow.push(1004);
      expect([seq, msg]).toEqual([i, `${i} ${long}`]);
    }
    slow.close();
    quick.close();
  });
});

describe("acknowledged is stored", () => {
  test("kill -9 right behind an ack loses nothing and nobody; a resend after it is still known", async () => {
    const data = `${temporaryFolder()}/chat.db`;
    let second = await startServer(data);
    const [bob, carl] = [await register(second.port), await register(second.port)];
    const sender = await login(second.port, bob);
    await sender.ask({ msgId: 1005, friendId: carl.id });
    const message = (i: number) => ({ msgId: 1004, toid: carl.id, msg: `${i}`, mid: `${i}` });
    sender.send(...count(1, 500).map(message));
    const acked: Message[] = [];
    // Somewhere in the middle of the pipeline.
    while (acked.length < 250) acked.push(await sender.next(({ ack }) => ack === 1004));
    await second.stop("SIGKILL");
    await sender.whenEnded();
    acked.push(...sender.rest());
    second = await startServer(data);
    const reader = await login(second.port, carl);
    expect(await reader.push(1005)).toMatchObject({ seq: 1 });
    for (const { mid, seq } of acked) expect(await reader.push(1004)).toMatchObject({ mid, seq });
    const again = await login(second.port, bob);
    again.send(...count(1, 500).map(message));
    for (const i of count(1, 500))
      expect(await again.next(({ ack }) => ack === 1004)).toMatchObject({ errno: 0, mid: `${i}`, seq: i + 1 });
    for (const i of count(acked.length + 1, 500))
      expect(await reader.push(1004)).toMatchObject({ msg: `${i}`, seq: i + 1 });
    reader.close();
    again.close();
    await second.stop();
  });

  test("a message to one who is online arrives although its sender is gone before the ack", async () => {
    const bob = await register(server.port);
    const reader = await login(server.port, bob);
    const sender = await login(server.port, await register(server.port));
    sender.send({ msgId: 1004, toid: bob.id, msg: "bye" }, { msgId: 1009 });
    await sender.next(({ ack }) => ack === 1009);
    sender.close();
    expect(await reader.push(1004)).toMatchObject({ msg: "bye" });
    reader.close();
  });

  test("a stored 1004 or 1008 without reqId and mid is not answered, a failed one is", async () => {
    const bob = await register(server.port);
    const { groupid } = await wire.ask({ msgId: 1006, groupname: "g" });
    await wire.settle();
    wire.rest();
    wire.send(
      { msgId: 1004, toid: bob.id, msg: "a" },
      { msgId: 1008, groupid: groupid!, msg: "b" },
      { msgId: 1004, toid: 999_999, msg: "c" },
      { msgId: 1008, groupid: 999_999, msg: "d" },
      { msgId: 1004, toid: bob.id },
      { msgId: 1012, reqId: "end" },
    );
    await until(() => wire.received.at(-1)?.reqId === "end", "the end");
    expect(wire.rest().map(({ ack, errno }) => [ack, errno])).toEqual([
      [1004, 12],
      [1008, 12],
      [1004, 14],
      [1012, 0],
    ]);
  });
});
