// Peers that vanish, break off in the middle of something, or all come back at once.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { setUserTimeout } from "../../src/libc.ts";
import { encode } from "../../src/net/encode.ts";
import { type JsonObject, MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, Wire } from "../wire.ts";
import { Reader } from "./flows.ts";
import { connectionsOf } from "./kernel.ts";

const newFile = () => join(temporaryFolder(), "chat.db");

test("idle connections are probed within a minute, so that a vanished peer does not stay online", async () => {
  const server = await startServer(newFile());
  const user = await register(server.port);
  const wire = await login(server.port, user);
  await until(() => connectionsOf(server.port).length === 1, "the other connection is gone");
  let keepaliveMs: number | null | undefined;
  await until(() => {
    keepaliveMs = connectionsOf(server.port)[0]?.keepaliveMs;
    return keepaliveMs != null;
  }, "the timer runs");
  expect(keepaliveMs).toBeGreaterThan(1_000);
  expect(keepaliveMs).toBeLessThanOrEqual(60_000);
  wire.close();
  await server.stop();
});

test("a peer that takes nothing is found out also where the kernel holds all that waits for it", async () => {
  let accepted = 0;
  let closed = 0;
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (socket) => {
        // More than its peer's buffer takes, less than its own.
        accepted += socket.write(Buffer.alloc(500_000));
      },
      data: () => {},
      close: () => {
        closed++;
      },
    },
  });
  setUserTimeout((listener as unknown as { fd: number }).fd, 1_000);
  const peer = await Bun.connect({ hostname: "127.0.0.1", port: listener.port, socket: { data: () => {} } });
  peer.pause();
  await until(() => accepted > 0, "the connection");
  await until(() => closed === 1, "its end", 15_000);
  peer.terminate();
  listener.stop();
});

test("messages for a peer that has vanished without a word are there at its next log-in", async () => {
  const server = await startServer(newFile(), [...CHEAP_PASSWORDS, "--idle-timeout", "1"]);
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const sender = await login(server.port, ann);
  await sender.ask({ msgId: MsgId.addFriend, friendId: bob.id });
  const vanished = await login(server.port, bob, { confirm: true });
  await vanished.settle();
  vanished.pause();
  for (let i = 0; i < 10; i++) await sender.ask({ msgId: MsgId.chat, toid: bob.id, msg: `${i}` });
  expect((await sender.next(({ state }) => state === "offline", "bob is offline")).id).toBe(bob.id);
  for (let i = 0; i < 10; i++) await sender.ask({ msgId: MsgId.chat, toid: bob.id, msg: `${i}` });
  const back = await login(server.port, bob, { confirm: true });
  expect(back.answer.offline).toBe(21);
  await new Reader(back).until(21);
  await server.stop();
});

/** A message in its framing, cut somewhere. */
function cut(message: JsonObject, framing: "length" | "lf" | "nul"): Buffer {
  const bytes = Buffer.alloc(1_000);
  const length = encode(JSON.stringify(message), framing, bytes, 0);
  // Text is whole without its terminator.
  return bytes.subarray(0, 1 + Math.floor(Math.random() * (length - 2)));
}

test.each(["length", "lf", "nul"] as const)(
  "%s: a reset or FIN in mid-frame ends the session and stores nothing",
  async (framing) => {
    const server = await startServer(newFile());
    const [ann, bob] = [await register(server.port), await register(server.port)];
    const watcher = await login(server.port, bob);
    await watcher.ask({ msgId: MsgId.addFriend, friendId: ann.id });
    for (let round = 0; round < 30; round++) {
      const wire = await Wire.connect(server.port, framing);
      wire.send({ msgId: MsgId.login, reqId: 1, id: ann.id, password: ann.password });
      // Nobody has to wait for a dead session.
      expect((await wire.next(({ msgId }) => msgId === MsgId.loggedIn)).errno).toBe(0);
      expect((await watcher.push(MsgId.presence)).state).toBe("online");
      wire.raw(cut({ msgId: MsgId.chat, toid: bob.id, msg: "never sent whole" }, framing));
      if (round % 2 === 0) wire.close();
      else wire.halfClose();
      expect((await watcher.push(MsgId.presence)).state).toBe("offline");
      if (round % 2 === 1) await wire.whenEnded();
      wire.close();
    }
    await watcher.settle();
    expect(watcher.rest().filter(({ msgId }) => msgId === MsgId.chat)).toEqual([]);
    expect(server.log()).not.toContain("bug");
    await server.stop();
  },
);

test("all users come back at once after a crash: all are let in at the first try, and get what waits for them", async () => {
  const USERS = 300;
  const data = newFile();
  const server = await startServer(data);
  const users = await Promise.all(Array.from({ length: USERS }, () => register(server.port)));
  const wires = await Promise.all(users.map((user) => login(server.port, user, { confirm: true })));
  const tokens = wires.map(({ answer }) => answer.token as string);
  // Everybody lists the next one, and has three messages from the one before.
  await Promise.all(wires.map((wire, i) => wire.ask({ msgId: MsgId.addFriend, friendId: users[(i + 1) % USERS]!.id })));
  for (let i = 0; i < 3; i++)
    await Promise.all(
      wires.map((wire, u) => wire.ask({ msgId: MsgId.chat, toid: users[(u + 1) % USERS]!.id, msg: `${i}` })),
    );
  await server.stop("SIGKILL");
  for (const wire of wires) wire.close();

  const next = await startServer(data, CHEAP_PASSWORDS, server.port);
  const startedAt = performance.now();
  const back = await Promise.all(
    users.map(async ({ id }, i) => {
      const wire = await Wire.connect(next.port);
      const answer = await wire.ask({ msgId: MsgId.login, id, token: tokens[i], confirm: true });
      expect(answer).toMatchObject({ errno: 0, id });
      await new Reader(wire, 0).until(4);
      return wire;
    }),
  );
  expect(performance.now() - startedAt).toBeLessThan(10_000);
  expect(next.log()).not.toMatch(/ (WARN|ERROR) /);
  for (const wire of back) wire.close();
  await next.stop();
}, 60_000);
