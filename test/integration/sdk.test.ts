// The SDK against the real server: acknowledgements, events, refusals, what was stored, a take-over, the end.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join, resolve } from "node:path";
import { Errno, type Json, MsgId } from "../../src/protocol.ts";
import { type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { register } from "../wire.ts";
import { codeOf, errnoOf, newcomer } from "./sdk-clients.ts";
import { Recorder, recorders } from "./stand-ins.ts";

let server: RunningServer;

beforeAll(async () => {
  server = await startServer(join(temporaryFolder(), "chat.db"));
});

afterAll(async () => {
  await Promise.all(recorders.map((client) => client.close(0)));
  await server.stop();
});

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
  // So does a log-out.
  await ann.send(bob.id, "one more");
  await until(() => third.texts.length === 1, "it is told");
  await third.logout();
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
