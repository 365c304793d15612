// The SDK over breaks: the server killed or drained, connections cut, frozen or refused; what goes on, what ends.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { Ack } from "../../src/client/outbox.ts";
import { Errno, MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { codeOf, newcomer } from "./sdk-clients.ts";
import { Recorder, recorders, Tunnel } from "./stand-ins.ts";

let server: RunningServer;

beforeAll(async () => {
  server = await startServer(join(temporaryFolder(), "chat.db"));
});

afterAll(async () => {
  await Promise.all(recorders.map((client) => client.close(0)));
  await server.stop();
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

test("requests and messages go out in the order in which they were asked for and sent", async () => {
  const tunnel = await Tunnel.to(server.port);
  const owner = await newcomer(server.port);
  const groupid = (await owner.request(MsgId.createGroup, { groupname: "hikers" })).groupid as number;
  const ann = await newcomer(tunnel.port);
  tunnel.refusing = true;
  tunnel.cut();
  await until(() => ann.told.offline.length > 0, "the connection is away");
  const order: string[] = [];
  const note = (what: string) => () => void order.push(what);
  // More than are written at once stand between the requests.
  const sends = Array.from({ length: 1_000 }, (_, i) => [`before ${i}`, `after ${i}`] as const);
  const all: Promise<unknown>[] = [ann.request(MsgId.addFriend, { friendId: owner.user.id })];
  for (const [text] of sends) all.push(ann.send(owner.user.id, text).then(note(text)));
  // What follows is refused unless this comes before it.
  all.push(ann.request(MsgId.joinGroup, { groupid }));
  for (const [, text] of sends) all.push(ann.sendGroup(groupid, text).then(note(text)));
  const given = ann.request(MsgId.friends).catch(codeOf);
  tunnel.refusing = false;
  await Promise.all(all);
  expect(order).toEqual([...sends.map(([text]) => text), ...sends.map(([, text]) => text)]);
  expect(await given).toMatchObject({ errno: 0 });
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
