// The SDK against a scripted server: refusals that pass, rows that come twice, and what else a real one seldom does.
import { afterAll, expect, test } from "bun:test";
import { Inbox } from "../../src/client/inbox.ts";
import { Errno, MsgId } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import { codeOf } from "./sdk-clients.ts";
import { FakeServer, LOGIN, Recorder, recorders } from "./stand-ins.ts";

afterAll(() => Promise.all(recorders.map((client) => client.close(0))));

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

test("rows of a log that was set back are told, and still none twice, whatever the server's clock does", async () => {
  const logs: [seq: number, ts: number][][] = [
    // The clock is set back before the fifth row.
    [
      [3, 1_003],
      [4, 1_004],
      [5, 1_002],
    ],
    // Nothing has been confirmed.
    [
      [3, 1_003],
      [4, 1_004],
      [5, 1_002],
      [6, 1_003],
    ],
    // A backup with the first three rows was restored.
    [
      [3, 1_003],
      [4, 2_004],
      [5, 2_001],
    ],
    [
      [3, 1_003],
      [4, 2_004],
      [5, 2_001],
      [6, 2_006],
    ],
  ];
  const fake = new FakeServer(({ msgId, reqId }, reply, hangUp) => {
    if (msgId !== MsgId.login) return;
    reply({ ...LOGIN, reqId });
    for (const [seq, ts] of logs.shift() ?? [])
      reply({
        msgId: MsgId.chat,
        fromid: 2,
        id: 2,
        name: "b",
        toid: 1,
        msg: `${seq} of ${ts}`,
        conv: "u:1-2",
        seq,
        ts,
      });
    if (logs.length > 0) hangUp();
  });
  const client = new Recorder(fake.port);
  await client.login({ id: 1, password: "secret1", confirm: true });
  const all = "3 of 1003, 4 of 1004, 5 of 1002, 6 of 1003, 4 of 2004, 5 of 2001, 6 of 2006";
  await until(() => client.texts.at(-1) === "6 of 2006", "the last row");
  expect(client.texts.join(", ")).toBe(all);
  fake.stop();
});

test("of a burst that is not over, rows are confirmed too, and none that was not passed on", () => {
  const confirmed: number[] = [];
  let told = 0;
  const inbox = new Inbox((_, seq) => {
    expect(seq).toBe(told);
    confirmed.push(seq);
  });
  for (let seq = 1; seq <= 100; seq++) {
    inbox.take({ msgId: MsgId.chat, conv: "u:1-2", seq, ts: seq }, true);
    told = seq;
  }
  inbox.disconnected();
  expect(confirmed).toEqual([32, 64, 96]);
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

test("a message that is large is given the time that it takes on a slow link", async () => {
  const fake = new FakeServer(({ msgId, reqId, mid }, reply) => {
    if (msgId === MsgId.login) return reply({ ...LOGIN, reqId });
    const ack = { msgId: 1010, ack: msgId, reqId, mid, errno: 0, conv: "u:1-2", seq: 1, time: "", ts: 1 };
    setTimeout(reply, 700, ack);
  });
  const client = new Recorder(fake.port, { silenceMs: 200 });
  await client.login({ id: 1, password: "secret1" });
  await client.send(2, "x".repeat(60_000));
  expect(client.told.offline).toEqual([]);
  client.send(2, "x").catch(() => undefined);
  await until(() => client.told.offline.length > 0, "the silence is noticed");
  fake.stop();
});

test("what may be stored is not told as refused where the session cannot be resumed", async () => {
  const fake = new FakeServer(({ msgId, reqId, token }, reply, hangUp) => {
    if (msgId !== MsgId.login) return hangUp();
    reply(token === "first" ? { ...LOGIN, reqId } : { msgId: 1003, reqId, errno: Errno.badCredentials, errmsg: "no" });
  });
  const client = new Recorder(fake.port);
  await client.login({ id: 1, token: "first" });
  expect(codeOf(await client.send(2, "perhaps").catch((error) => error))).toBe("closed");
  expect(client.told.ended).toMatchObject([{ errno: Errno.badCredentials }]);
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
