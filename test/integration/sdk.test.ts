// The SDK against the real server: acknowledgements, events, reconnects, resumes, the end.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join, resolve } from "node:path";
import type { ClientOptions } from "../../src/client/client.ts";
import { ClientError } from "../../src/client/events.ts";
import type { Ack } from "../../src/client/outbox.ts";
import { ChatError, Errno, type Json, type JsonObject, MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { register } from "../wire.ts";
import { FakeServer, LOGIN, Recorder, recorders, Tunnel } from "./stand-ins.ts";

let server: RunningServer;

beforeAll(async () => {
  server = await startServer(join(temporaryFolder(), "chat.db"));
});

afterAll(async () => {
  await Promise.all(recorders.map((client) => client.close(0)));
  await server.stop();
});

/** A client that is logged in as a new user. */
async function newcomer(port: number, options: Partial<ClientOptions> = {}, fields: JsonObject = {}) {
  const user = await register(port);
  const client = new Recorder(port, options);
  await client.login({ id: user.id, password: user.password, ...fields });
  return Object.assign(client, { user });
}

const errnoOf = (error: unknown): unknown => (error instanceof ChatError ? error.errno : error);
const codeOf = (error: unknown): unknown => (error instanceof ClientError ? error.code : error);

test("messages are acknowledged when stored, and arrive typed", async () => {
  const ann = await newcomer(server.port);
  const bob = await newcomer(server.port);
  const ack = await ann.send(bob.user.id, "hello");
  expect(ack).toMatchObject({ seq: 1, conv: `u:${ann.user.id}-${bob.user.id}` });
  expect(ack.mid).toMatch(/^[\w-]{1,64}$/);
  expect(await ann.send(bob.user.id, "again", "mine")).toMatchObject({ seq: 2, mid: "mine" });
  // The same mid is the same message.
  expect((await ann.send(bob.user.id, "again", "mine")).seq).toBe(2);
  await until(() => bob.told.message.length === 2, "both messages");
  expect(bob.told.message[0]).toMatchObject({ fromid: ann.user.id, name: ann.user.name, msg: "hello", ts: ack.ts });
});

test("friends, groups and presence are told", async () => {
  const ann = await newcomer(server.port);
  const bob = await newcomer(server.port);
  await ann.request(MsgId.addFriend, { friendId: bob.user.id, msg: "hi" });
  await until(() => bob.told.friendAdded.length === 1, "bob is told");
  expect(bob.told.friendAdded[0]).toMatchObject({ id: ann.user.id, friendId: bob.user.id, msg: "hi" });
  const { groupid } = await ann.request(MsgId.createGroup, { groupname: "hikers" });
  await bob.request(MsgId.joinGroup, { groupid: groupid as number });
  await until(() => ann.told.groupChanged.length === 1, "ann is told");
  expect(ann.told.groupChanged[0]).toMatchObject({ groupid: groupid as Json, userid: bob.user.id });
  await bob.sendGroup(groupid as number, "to all");
  await until(() => ann.told.groupMessage.length === 1, "ann gets it");
  expect(ann.told.groupMessage[0]).toMatchObject({ msg: "to all", id: bob.user.id, seq: 2 });
  await bob.close();
  await until(() => ann.told.presence.at(-1)?.state === "offline", "bob is gone");
});

test("what the server refuses for good rejects, and what it cannot say rejects too", async () => {
  const ann = await newcomer(server.port);
  expect(errnoOf(await ann.send(999_999, "x").catch((error) => error))).toBe(Errno.notFound);
  expect(errnoOf(await ann.send(1, "\ud800").catch((error) => error))).toBe(Errno.invalidField);
  expect(errnoOf(await ann.request(4711).catch((error) => error))).toBe(Errno.unknownMessage);
  expect(errnoOf(await ann.login({ id: 1 }).catch((error) => error))).toBe(Errno.alreadyDone);
  const nobody = new Recorder(server.port);
  expect(errnoOf(await nobody.send(1, "x").catch((error) => error))).toBe(Errno.notLoggedIn);
  expect(errnoOf(await nobody.login({ id: 1, password: "wrong-password" }).catch((error) => error))).toBe(
    Errno.badCredentials,
  );
  const nowhere = new Recorder(1);
  expect(codeOf(await nowhere.connect().catch((error) => error))).toBe("unreachable");
  expect(codeOf(await nowhere.login({ id: 1, password: "secret1" }).catch((error) => error))).toBe("unreachable");
});

test("a message over the server's limit rejects alone: the others survive the reconnect that it costs", async () => {
  const ann = await newcomer(server.port);
  const bob = await newcomer(server.port);
  const before = Array.from({ length: 20 }, (_, i) => ann.send(bob.user.id, `before ${i}`));
  const large = ann.send(bob.user.id, "x".repeat(100_000)).catch(errnoOf);
  const after = Array.from({ length: 20 }, (_, i) => ann.send(bob.user.id, `after ${i}`));
  expect(await large).toBe(Errno.tooLarge);
  const acks = await Promise.all([...before, ...after]);
  expect(acks.map(({ seq }) => seq)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  await until(() => bob.texts.length === 40, "all of them arrive");
  expect(ann.told.online.map(({ resumed }) => resumed)).toEqual([false, true]);
});

test("what was stored follows the log-in once, and is confirmed", async () => {
  const ann = await newcomer(server.port);
  const bob = await register(server.port);
  const first = new Recorder(server.port);
  await first.login({ ...bob, confirm: true });
  await first.close();
  await Promise.all(Array.from({ length: 300 }, (_, i) => ann.send(bob.id, `m${i}`)));
  const second = new Recorder(server.port);
  const { offline } = await second.login({ ...bob, confirm: true });
  expect(offline).toBe(300);
  await until(() => second.texts.length === 300, "all of them");
  expect(second.texts).toEqual(Array.from({ length: 300 }, (_, i) => `m${i}`));
  // `close` confirms what has been told.
  await second.close();
  const third = new Recorder(server.port);
  expect((await third.login({ ...bob, confirm: true })).offline).toBe(0);
});

test("a session without confirm gets what was stored even after its own FIN", async () => {
  const ann = await newcomer(server.port);
  const bob = await register(server.port);
  await Promise.all(Array.from({ length: 600 }, (_, i) => ann.send(bob.id, `m${i}`)));
  const client = new Recorder(server.port);
  await client.login(bob);
  await client.close();
  expect(client.texts.length).toBe(600);
});

test("a confirming session that is closed amid its backlog gets the rest at the next log-in, and nothing twice", async () => {
  const ann = await newcomer(server.port);
  const bob = { ...(await register(server.port)), confirm: true };
  // More than one read of a socket can bring.
  const expected = Array.from({ length: 1000 }, (_, i) => `m${i}`.padEnd(4000));
  await Promise.all(expected.map((msg) => ann.send(bob.id, msg)));
  const first = new Recorder(server.port);
  first.on("message", () => void first.close());
  await first.login(bob);
  await first.close();
  expect(first.texts.length).toBeLessThan(1000);
  const second = new Recorder(server.port);
  await second.login(bob);
  await until(() => first.texts.length + second.texts.length >= 1000, "the rest");
  expect([...first.texts, ...second.texts]).toEqual(expected);
});

test("kill -9 and restart: every send is acknowledged once, stored once, delivered once, in order", async () => {
  const data = join(temporaryFolder(), "chat.db");
  let running = await startServer(data);
  const { port } = running;
  const ann = await newcomer(port);
  const bob = await newcomer(port, {}, { confirm: true });
  const acks = new Map<string, Ack>();
  const sends: Promise<void>[] = [];
  let twice = 0;
  const sendSome = (count: number) => {
    for (let i = 0; i < count; i++) {
      const msg = `m${sends.length}`;
      sends.push(
        ann.send(bob.user.id, msg).then((ack) => {
          if (acks.has(msg)) twice++;
          acks.set(msg, ack);
        }),
      );
    }
  };
  for (let round = 0; round < 3; round++) {
    sendSome(1000);
    const enough = acks.size + 200;
    await until(() => acks.size >= enough, "some are acknowledged");
    await running.stop("SIGKILL");
    // Sent while there is no server.
    sendSome(100);
    running = await startServer(data, CHEAP_PASSWORDS, port);
  }
  await Promise.all(sends);
  const expected = Array.from({ length: 3300 }, (_, i) => `m${i}`);
  await until(() => bob.texts.length >= 3300, "everything is delivered", 20_000);
  expect(bob.texts).toEqual(expected);
  expect(twice).toBe(0);
  expect(expected.map((msg) => acks.get(msg)!.seq)).toEqual(expected.map((_, i) => i + 1));
  expect(ann.told.offline.length).toBe(3);
  expect(ann.told.online.length).toBe(4);
  await Promise.all([ann.close(), bob.close()]);
  await running.stop();
});

test("a server that drains says when to come back: the clients resume without losing or doubling", async () => {
  const data = join(temporaryFolder(), "chat.db");
  const first = await startServer(data);
  const { port } = first;
  const ann = await newcomer(port);
  const bob = await newcomer(port, {}, { confirm: true });
  const sends = Array.from({ length: 2000 }, (_, i) => ann.send(bob.user.id, `m${i}`));
  await Promise.race(sends);
  expect(await first.stop("SIGTERM")).toBe(0);
  const second = await startServer(data, CHEAP_PASSWORDS, port);
  const acks = await Promise.all(sends);
  expect(acks.map(({ seq }) => seq)).toEqual(acks.map((_, i) => i + 1));
  await until(() => bob.texts.length >= 2000, "everything is delivered");
  expect(bob.texts).toEqual(acks.map((_, i) => `m${i}`));
  expect(ann.told.notice[0]).toMatchObject({ errno: Errno.shuttingDown });
  const { retryInMs } = ann.told.offline[0]!;
  expect(retryInMs).toBeGreaterThanOrEqual(ann.told.notice[0]!.retryAfterMs as number);
  await Promise.all([ann.close(), bob.close()]);
  await second.stop();
});

test("a session that is taken over ends, and does not fight back", async () => {
  const old = await newcomer(server.port);
  const { id, password } = old.user;
  const other = new Recorder(server.port);
  expect(errnoOf(await other.login({ id, password }).catch((error) => error))).toBe(Errno.alreadyOnline);
  await other.login({ id, password, takeover: true });
  await until(() => old.told.ended.length === 1, "the old one is told");
  expect(old.told.ended[0]!.errno).toBe(Errno.replaced);
  expect([old.userId, old.isOnline]).toEqual([null, false]);
  expect(errnoOf(await old.send(id, "x").catch((error) => error))).toBe(Errno.notLoggedIn);
  await other.send(id, "still here");
  expect(other.told.ended).toEqual([]);
  // The old one may come back when its user says so.
  await old.login({ id, password, takeover: true });
  await until(() => other.told.ended.length === 1, "the other one is told");
});

test("a broken connection is resumed by token, else by password, else not at all", async () => {
  const tunnel = await Tunnel.to(server.port);
  const ann = await newcomer(server.port);
  const { id, password } = ann.user;
  const byToken = new Recorder(tunnel.port);
  await byToken.login({ id, token: ann.told.online[0]!.login.token, device: "token" });
  const byPassword = new Recorder(tunnel.port);
  await byPassword.login({ id, password, device: "password" });
  tunnel.cut();
  await until(() => byToken.told.online.length === 2 && byPassword.told.online.length === 2, "both are back");
  expect(byToken.told.online[1]!.resumed).toBe(true);
  const waiting = byToken.send(id, "before the tokens are void");
  await waiting;
  await ann.logout(true);
  tunnel.cut();
  await until(() => byToken.told.ended.length === 1 && byPassword.told.online.length === 3, "one is back, one is not");
  expect(byToken.told.ended[0]!.errno).toBe(Errno.badCredentials);
  expect(byToken.userId).toBeNull();
  await byPassword.send(id, "works");
  tunnel.stop();
});

test("requests wait for the reconnect; one whose answer was lost is not repeated", async () => {
  const tunnel = await Tunnel.to(server.port);
  const ann = await newcomer(tunnel.port);
  tunnel.frozen = true;
  const lost = ann.request(MsgId.createGroup, { groupname: "perhaps" }).catch(codeOf);
  tunnel.refusing = true;
  tunnel.cut();
  expect(await lost).toBe("lost");
  const waits = ann.request(MsgId.friends);
  tunnel.frozen = tunnel.refusing = false;
  expect((await waits).friends).toEqual([]);
  tunnel.stop();
});

test("a half-open connection is found out by heartbeats, and a server that is silent from the start too", async () => {
  const tunnel = await Tunnel.to(server.port);
  const ann = await newcomer(tunnel.port, { heartbeatMs: 50, silenceMs: 300 });
  await until(() => tunnel.forwarded > 5, "heartbeats");
  expect(ann.told.offline).toEqual([]);
  tunnel.frozen = true;
  const sent = ann.send(ann.user.id, "into the void");
  await until(() => ann.told.offline.length > 0, "the silence is noticed");
  expect(ann.told.offline[0]!.reason).toContain("does not answer");
  tunnel.frozen = false;
  expect((await sent).seq).toBe(1);
  // Silence in answer to the resume itself.
  tunnel.frozen = true;
  const swallowed = tunnel.swallowed;
  tunnel.cut();
  await until(() => tunnel.swallowed > swallowed, "the resume goes into the void");
  tunnel.frozen = false;
  expect((await ann.send(ann.user.id, "after it")).seq).toBe(2);
  const client = new Recorder(tunnel.port, { requestTimeoutMs: 100 });
  tunnel.frozen = true;
  expect(codeOf(await client.login(ann.user).catch((error) => error))).toBe("timeout");
  tunnel.stop();
});

test("close sends what waits, and unanswered requests are answered", async () => {
  const ann = await newcomer(server.port);
  const bob = await newcomer(server.port);
  const sends = Array.from({ length: 1500 }, (_, i) => ann.send(bob.user.id, `m${i}`));
  const friends = ann.request(MsgId.friends);
  await ann.close();
  expect((await Promise.all(sends)).length).toBe(1500);
  expect((await friends).friends).toEqual([]);
  expect(codeOf(await ann.send(bob.user.id, "late").catch((error) => error))).toBe("closed");
  expect(codeOf(await ann.request(MsgId.friends).catch((error) => error))).toBe("closed");
  await until(() => bob.texts.length === 1500, "all of them arrive");
});

test("without a server close gives up what waits, in time, and outstanding sends have a limit", async () => {
  const tunnel = await Tunnel.to(server.port);
  const ann = await newcomer(tunnel.port, { maxOutstanding: 3 });
  tunnel.refusing = true;
  tunnel.cut();
  await until(() => ann.told.offline.length === 1, "the break is noticed");
  const sends = Array.from({ length: 4 }, (_, i) => ann.send(ann.user.id, `m${i}`).catch(codeOf));
  expect(await sends[3]).toBe("full");
  expect(ann.outstanding).toBe(3);
  await ann.close(50);
  expect(await Promise.all(sends)).toEqual(["closed", "closed", "closed", "full"]);
  tunnel.stop();
});

test("the server's end of an idle connection without a log-in is no reason to reconnect, until it is needed", async () => {
  const impatient = await startServer(join(temporaryFolder(), "chat.db"), [...CHEAP_PASSWORDS, "--login-timeout", "1"]);
  const client = new Recorder(impatient.port);
  await client.connect();
  await until(() => client.told.offline.length === 1, "the server hangs up");
  expect(client.told.offline[0]!.retryInMs).toBeNull();
  expect(await client.register("ann", "secret1")).toBe(1);
  await client.close();
  await impatient.stop();
});

test("nothing keeps a process alive after close", async () => {
  const { id, password } = await register(server.port);
  const program = `
    const { ChatClient } = await import(${JSON.stringify(resolve(import.meta.dir, "../../src/client/client.ts"))});
    const client = new ChatClient({ host: "127.0.0.1", port: ${server.port} });
    await client.login({ id: ${id}, password: "${password}" });
    console.log((await client.send(${id}, "note to self")).seq);
    await client.close();
    const idle = new ChatClient({ host: "127.0.0.1", port: ${server.port} });
    await idle.connect();
    await idle.close();`;
  const script = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "pipe" });
  const late = setTimeout(() => script.kill("SIGKILL"), 10_000);
  expect([await script.stdout.text(), await script.stderr.text()]).toEqual(["1\n", ""]);
  expect(await script.exited).toBe(0);
  clearTimeout(late);
});

test("19, 16 and 20 are no answers: the same mid goes out again, in order, until it is stored", async () => {
  const refusals = [Errno.unavailable, Errno.rateLimited, Errno.shuttingDown];
  const stored: string[] = [];
  const fake = new FakeServer(({ msgId, reqId, mid }, reply) => {
    if (msgId === MsgId.login) return reply({ ...LOGIN, reqId });
    const errno = refusals.shift();
    if (errno !== undefined)
      return reply({ msgId: 1010, ack: msgId, reqId, mid, errno, errmsg: "no", retryAfterMs: 1 });
    stored.push(mid as string);
    reply({ msgId: 1010, ack: msgId, reqId, mid, errno: 0, conv: "u:1-2", seq: stored.length, time: "", ts: 1 });
  });
  const client = new Recorder(fake.port);
  await client.login({ id: 1, password: "secret1" });
  // The first three are refused, in one turn with the others.
  const acks = await Promise.all(["a", "b", "c", "d"].map((mid) => client.send(2, mid, mid)));
  expect(acks.map(({ mid }) => mid)).toEqual(["a", "b", "c", "d"]);
  expect([...stored].sort()).toEqual(["a", "b", "c", "d"]);
  expect(stored.filter((mid) => mid !== "d")).toEqual(["a", "b", "c"]);
  fake.stop();
});

test("a row that is pushed twice is told once, and confirmed as this connection was sent it", async () => {
  const row = (seq: number) => ({
    msgId: 1004,
    fromid: 2,
    id: 2,
    name: "b",
    toid: 1,
    msg: `m${seq}`,
    conv: "u:1-2",
    seq,
  });
  let logins = 0;
  const fake = new FakeServer(({ msgId, reqId }, reply, hangUp) => {
    if (msgId !== MsgId.login) return;
    reply({ ...LOGIN, reqId });
    for (const seq of [
      [1, 3, 4],
      [1, 3],
    ][logins] ?? [])
      reply(row(seq));
    if (logins++ === 0) hangUp();
  });
  const client = new Recorder(fake.port);
  await client.login({ id: 1, password: "secret1", confirm: true });
  await until(() => fake.received.some(({ msgId }) => msgId === MsgId.confirm), "a confirmation");
  expect(client.texts).toEqual(["m1", "m3", "m4"]);
  expect(fake.received.filter(({ msgId }) => msgId === MsgId.confirm)).toMatchObject([{ conv: "u:1-2", seq: 3 }]);
  expect(fake.received[1]).toMatchObject({ msgId: MsgId.login, id: 1, token: "t", takeover: true, confirm: true });
  fake.stop();
});

// A paused server carries out a log-in, with takeover, that its client gave up long ago: and is logged in elsewhere.
test("a session that the client's own late log-in has taken over is taken back, once", async () => {
  let logins = 0;
  const taken = { msgId: MsgId.notice, errno: Errno.replaced, errmsg: "taken over" };
  const fake = new FakeServer(({ msgId, reqId }, reply, hangUp) => {
    if (msgId !== MsgId.login) return;
    logins++;
    if (logins === 2) return hangUp();
    reply({ ...LOGIN, reqId });
    if (logins === 1) hangUp();
    else reply(taken);
  });
  const client = new Recorder(fake.port);
  await client.login({ id: 1, password: "secret1" });
  await until(() => client.told.ended.length === 1, "it is taken over by another program in the end");
  expect(client.told.online.length).toBe(3);
  expect([logins, client.told.notice.length]).toEqual([4, 2]);
  fake.stop();
});

test("after its last word a connection is not listened to", async () => {
  let logins = 0;
  const fake = new FakeServer(({ msgId, reqId }, reply) => {
    if (msgId !== MsgId.login) return;
    reply({ ...LOGIN, reqId });
    if (logins++ > 0) return;
    reply({ msgId: MsgId.notice, errno: Errno.shuttingDown, errmsg: "away", retryAfterMs: 1 });
    reply({ msgId: MsgId.presence, id: 2, state: "online" });
  });
  const client = new Recorder(fake.port);
  await client.login({ id: 1, password: "secret1" });
  await until(() => client.told.online.length === 2, "it is back");
  expect(client.told.offline).toMatchObject([{ reason: "away" }]);
  expect(client.told.presence).toEqual([]);
  fake.stop();
});

test("what does not speak the protocol is told from a server", async () => {
  const banner = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { open: (socket) => void socket.write("SSH-2.0-OpenSSH_9.9\r\n"), data: () => undefined },
  });
  const client = new Recorder(banner.port);
  expect(codeOf(await client.login({ id: 1, password: "secret1" }).catch((error) => error))).toMatch(
    /unreachable|lost/,
  );
  banner.stop(true);
});
