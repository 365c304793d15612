// Limits: what is beyond them is answered or refused, and the rest goes on.
import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Framing } from "../../src/net/codec.ts";
import { MAX_FRAME_BYTES } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, Wire } from "../wire.ts";

let server: RunningServer;

const start = async (flags: string[]) => {
  server = await startServer(`${temporaryFolder()}/chat.db`, flags);
};

afterEach(async () => {
  expect(server.log()).not.toContain("bug");
  await server.stop();
});

const connect = (count: number): Promise<Wire[]> =>
  Promise.all(Array.from({ length: count }, () => Wire.connect(server.port)));

describe("connections", () => {
  test("5,000 connects at once: none is lost, each is answered", async () => {
    const files = Number(/^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))![1]);
    const count = Math.min(5_000, files - 500);
    await start(CHEAP_PASSWORDS);
    const startedAt = performance.now();
    const wires = await connect(count);
    for (const wire of wires) wire.send({ msgId: 1012 });
    await until(() => wires.every((wire) => wire.received.length === 1), "all answers", 20_000);
    // A connect that is lost is tried again by the kernel after 1 s, then after 2 s more.
    expect(performance.now() - startedAt).toBeLessThan(15_000);
    for (const wire of wires) expect(wire.received[0]).toMatchObject({ ack: 1012, errno: 0 });
    for (const wire of wires) wire.close();
    const next = await Wire.connect(server.port);
    await next.settle();
    next.close();
  });

  test.each<Framing>(["length", "lf", "nul"])("above --max-connections (%s): 16, then the end", async (framing) => {
    await start([...CHEAP_PASSWORDS, "--max-connections", "5"]);
    const wires = await connect(5);
    for (const wire of wires) await wire.settle();
    const [silent, blank, asking, broken, chatting] = await Promise.all(
      [1, 2, 3, 4, 5].map(() => Wire.connect(server.port, framing)),
    );
    // What is repeated is what may be: a reqId that is none is not.
    chatting!.send({ msgId: 1004, toid: 1, msg: "hello", mid: "m", reqId: 1.5 });
    const refusal = await chatting!.next();
    expect(refusal).toMatchObject({ msgId: 1010, ack: 1004, mid: "m", errno: 16 });
    expect(refusal).not.toHaveProperty("reqId");
    asking!.send({ msgId: 1002, id: 1, password: "secret1", reqId: "r" });
    expect(await asking!.next()).toMatchObject({
      msgId: 1003,
      reqId: "r",
      errno: 16,
      retryAfterMs: expect.any(Number),
    });
    broken!.raw(framing === "length" ? Buffer.from([0, 0, 0, 1, 0x7b]) : "?\n");
    expect(await broken!.next()).toMatchObject({ msgId: 1010, errno: 16 });
    // Nobody knows how to answer a client that has not sent a byte, or goes on sending what is no message.
    const refused = [silent!, blank!, asking!, broken!, chatting!];
    const areEnded = () => {
      if (framing !== "length" && !blank!.ended) blank!.raw(" ");
      return refused.every(({ ended }) => ended);
    };
    await until(areEnded, "their end");
    expect(silent!.bytes).toEqual([]);
    for (const wire of wires) await wire.settle();
    wires[0]!.close();
    await until(async () => {
      const next = await Wire.connect(server.port);
      const { errno } = await next.ask({ msgId: 1012 });
      next.close();
      return errno === 0;
    }, "room for another connection");
    for (const wire of wires) wire.close();
  });

  test("a flood above the limit does not disturb those within it", async () => {
    await start([...CHEAP_PASSWORDS, "--max-connections", "5"]);
    const wire = await Wire.connect(server.port);
    await wire.settle();
    // Some are answered, some closed, some reset before they know that they are connected.
    const attempts = await Promise.allSettled(Array.from({ length: 1_000 }, () => Wire.connect(server.port)));
    const flood = attempts.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    for (const each of flood) each.send({ msgId: 1012 });
    await wire.settle();
    const places = 4;
    await until(() => flood.filter((each) => !each.ended).length <= places, "the end of the flood", 20_000);
    for (const { ended, received } of flood) if (received.length > 0) expect(received[0]!.errno).toBe(ended ? 16 : 0);
    // The administrator is told, and not a thousand times.
    const told = server.log().match(/connection refused: all 5 are in use/g) ?? [];
    expect(told.length).toBeGreaterThan(0);
    expect(told.length).toBeLessThan(30);
    await wire.settle();
    for (const each of [wire, ...flood]) each.close();
  });
});

describe("--max-frame", () => {
  test("smaller", async () => {
    await start([...CHEAP_PASSWORDS, "--max-frame", "1024"]);
    const wire = await login(server.port, await register(server.port));
    const bare = JSON.stringify({ msgId: 1012, x: "" }).length;
    wire.send({ msgId: 1012, x: "x".repeat(1024 - bare) });
    expect(await wire.next()).toMatchObject({ errno: 0 });
    wire.send({ msgId: 1012, x: "x".repeat(1025 - bare) });
    expect(await wire.next()).toMatchObject({ errno: 15, errmsg: expect.stringContaining("1024") });
    await wire.whenEnded();
  });

  test("the largest: messages that fill it arrive, and what could not be pushed is 15 while the connection stays", async () => {
    await start([...CHEAP_PASSWORDS, "--max-frame", String(MAX_FRAME_BYTES)]);
    const [ann, bob] = [await register(server.port), await register(server.port)];
    const [sender, receiver] = [await login(server.port, ann), await login(server.port, bob)];
    // Each quote is two bytes on the wire.
    const msg = '"'.repeat(8_300_000);
    expect(await sender.ask({ msgId: 1004, toid: bob.id, msg, mid: "a" })).toMatchObject({ errno: 0, seq: 1 });
    expect((await receiver.push(1004, 20_000)).msg === msg).toBe(true);
    const tooLong = "x".repeat(MAX_FRAME_BYTES - 1_000);
    expect(await sender.ask({ msgId: 1004, toid: bob.id, msg: tooLong, mid: "b" })).toMatchObject({
      errno: 15,
      mid: "b",
    });
    expect(await sender.ask({ msgId: 1005, friendId: bob.id, msg: tooLong })).toMatchObject({ errno: 15 });
    // The next in the log has the next seq, and neither was kept.
    expect(await sender.ask({ msgId: 1004, toid: bob.id, msg: "next" })).toMatchObject({ errno: 0, seq: 2 });
    receiver.close();
    // Not inside a first-generation answer, where its quotes would be escaped once more, but behind it.
    await sender.ask({ msgId: 1004, toid: bob.id, msg, mid: "c" });
    const old = await Wire.connect(server.port, "nul");
    old.send({ msgId: 1002, id: bob.id, password: bob.password, takeover: true, device: "" });
    const answer = await old.next();
    expect(answer).toMatchObject({ msgId: 1003, errno: 0 });
    expect((answer.offlinemsg as string[]).length).toBeLessThan(2);
    const pushed = await old.next(({ mid }) => mid === "c", "the large message", 20_000);
    expect(pushed.msg === msg).toBe(true);
    for (const each of [sender, old]) each.close();
  }, 60_000);
});

describe("passwords", () => {
  const SLOW = ["--password-memory", "64", "--password-time", "2", "--password-queue", "4"];

  test("more than can wait for a hash get 16 and how long to wait; then they are served", async () => {
    await start(SLOW);
    const wires = await connect(40);
    const answers = await Promise.all(
      wires.map((wire, i) => wire.ask({ msgId: 1000, name: `user${i}`, password: "secret1" })),
    );
    const served = answers.filter(({ errno }) => errno === 0);
    const refused = wires.filter((_, i) => answers[i]!.errno === 16);
    expect(served.length + refused.length).toBe(40);
    // Those who may wait, and whoever is served meanwhile.
    expect(served.length).toBeGreaterThan(4);
    expect(refused.length).toBeGreaterThan(0);
    const times = answers.filter(({ errno }) => errno === 16).map(({ retryAfterMs }) => retryAfterMs as number);
    expect(times.every((ms) => Number.isInteger(ms) && ms > 0)).toBe(true);
    // Not all at once.
    expect(new Set(times).size).toBeGreaterThan(times.length / 4);
    await until(
      async () => (await refused[0]!.ask({ msgId: 1000, name: "again", password: "secret1" })).errno === 0,
      "a place",
    );
    // Others are not held up by hashes.
    await refused[1]!.settle();
    for (const wire of wires) wire.close();
  });

  test("an unknown user is refused as a wrong password is: the same answer, at the same cost", async () => {
    await start(SLOW);
    const { id, name } = await register(server.port);
    const wire = await Wire.connect(server.port);
    const took: number[][] = [[], []];
    const attempt = async (which: number, who: { id: number } | { name: string }) => {
      const startedAt = performance.now();
      const { reqId: _, ...answer } = await wire.ask({ msgId: 1002, ...who, password: "wrong password" });
      took[which]!.push(performance.now() - startedAt);
      return answer;
    };
    for (let i = 0; i < 5; i++) {
      expect(await attempt(0, { id: 999_999 })).toEqual(await attempt(1, { id }));
      expect(await attempt(0, { name: "nobody" })).toEqual(await attempt(1, { name }));
    }
    const [unknown, wrong] = took.map((times) => times.toSorted((a, b) => a - b)[5]!) as [number, number];
    expect(unknown / wrong).toBeGreaterThan(1 / 3);
    expect(unknown / wrong).toBeLessThan(3);
    wire.close();
  });
});
