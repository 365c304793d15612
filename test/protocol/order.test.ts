// The order on one connection: requests may be pipelined, and their answers come in the order of the requests.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Framing } from "../../src/net/codec.ts";
import type { JsonObject } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";

let server: RunningServer;
let ann: User;
let bob: User;

beforeAll(async () => {
  // Few in flight, so that every longer pipeline meets the limit.
  server = await startServer(`${temporaryFolder()}/chat.db`, [...CHEAP_PASSWORDS, "--max-in-flight", "16"]);
  ann = await register(server.port);
  bob = await register(server.port);
});

afterAll(() => server.stop());

/** Requests of all kinds, right and wrong ones; `reqId` counts them. */
function mixture(count: number, group: number): JsonObject[] {
  const kinds: ((i: number) => JsonObject)[] = [
    (i) => ({ msgId: 1004, toid: bob.id, msg: `m${i}` }),
    () => ({ msgId: 1012 }),
    (i) => ({ msgId: 1008, groupid: group, msg: `g${i}`, mid: `${i}` }),
    (i) => ({ msgId: 1004, toid: 999_999, msg: `m${i}` }),
    () => ({ msgId: 1011, conv: "g:999", seq: 1 }),
    () => ({ msgId: 1014 }),
    (i) => ({ msgId: 1004, toid: bob.id, msg: `m${i}`, mid: `${i}` }),
    () => ({ msgId: 1999 }),
    () => ({ msgId: 1005, friendId: 999_999 }),
    (i) => ({ msgId: 1004, toid: bob.id, msg: i }),
    () => ({ msgId: 1015 }),
    () => ({ msgId: 1000, name: "", password: "" }),
    (i) => ({ msgId: 1004, toid: bob.id, msg: `m${i}`, fromid: bob.id }),
  ];
  return Array.from({ length: count }, (_, i) => ({ ...kinds[(i * 7 + (i >> 3)) % kinds.length]!(i), reqId: i }));
}

describe.each<Framing>(["length", "lf", "nul"])("%s framing", (framing) => {
  test("a pipeline of everything is answered in its order, with the log-in in front", async () => {
    const wire = await Wire.connect(server.port, framing);
    const user = await register(server.port);
    const group = 1;
    wire.send(
      { msgId: 1002, id: user.id, password: user.password, reqId: "login" },
      ...mixture(500, group),
      { msgId: 1009, reqId: "out" },
      { msgId: 1004, toid: bob.id, msg: "too late", reqId: "late" },
      { msgId: 1002, id: user.id, password: user.password, reqId: "again" },
      { msgId: 1012, reqId: "end" },
    );
    await wire.next((message) => message.reqId === "end");
    const answers = wire.rest().filter(({ msgId }) => msgId === 1001 || msgId === 1003 || msgId === 1010);
    const expected = Array.from({ length: 500 }, (_, i) => i);
    expect(answers.map(({ reqId }) => reqId)).toEqual(["login", ...expected, "out", "late", "again"]);
    expect(answers.at(-2)).toMatchObject({ errno: 10 });
    expect(answers.at(-1)).toMatchObject({ errno: 0, offline: 0 });
    wire.close();
  });
});

test("the seqs of a pipeline are in its order, and a barrier sees what was sent before it", async () => {
  const wire = await login(server.port, ann);
  const carl = await register(server.port);
  const messages = Array.from({ length: 300 }, (_, i) => ({ msgId: 1004, toid: carl.id, msg: `${i}`, reqId: i }));
  wire.send(...messages);
  for (let i = 0; i < 300; i++) expect(await wire.next()).toMatchObject({ reqId: i, seq: i + 1, errno: 0 });
  wire.send(
    { msgId: 1006, groupname: "barrier", reqId: "a" },
    { msgId: 1004, toid: carl.id, msg: "300" },
    { msgId: 1005, friendId: carl.id, reqId: "b" },
    { msgId: 1004, toid: carl.id, msg: "302", reqId: "c" },
    { msgId: 1014, reqId: "d" },
  );
  expect(await wire.next((message) => message.reqId === "c")).toMatchObject({ seq: 303 });
  expect((await wire.next((message) => message.reqId === "d")).friends).toMatchObject([{ id: carl.id }]);
  const reader = await login(server.port, carl);
  for (let i = 0; i < 300; i++) expect(await reader.push(1004)).toMatchObject({ seq: i + 1, msg: `${i}` });
  expect(await reader.next()).toMatchObject({ msgId: 1004, seq: 301, msg: "300" });
  expect(await reader.next()).toMatchObject({ msgId: 1005, seq: 302 });
  expect(await reader.next()).toMatchObject({ msgId: 1004, seq: 303, msg: "302" });
  wire.close();
  reader.close();
});

test("1011 and 1012 wait for their turn behind a message that is being stored", async () => {
  const [carl, dora] = [await register(server.port), await register(server.port)];
  const wire = await login(server.port, carl);
  const conv = `u:${carl.id}-${dora.id}`;
  const peer = await login(server.port, dora);
  await peer.ask({ msgId: 1004, toid: carl.id, msg: "to be confirmed" });
  await wire.push(1004);
  for (let round = 0; round < 50; round++)
    wire.send(
      { msgId: 1004, toid: dora.id, msg: "first", reqId: `${round}a` },
      { msgId: 1012, reqId: `${round}b` },
      { msgId: 1011, conv, seq: 1, reqId: `${round}c` },
    );
  for (let round = 0; round < 50; round++)
    for (const letter of ["a", "b", "c"]) expect(await wire.next()).toMatchObject({ reqId: round + letter, errno: 0 });
  wire.close();
  peer.close();
});

test("a fault waits for its turn too", async () => {
  const wire = await login(server.port, await register(server.port));
  wire.send(
    { msgId: 1004, toid: bob.id, msg: "a", reqId: 1 },
    { notAMessage: true, reqId: 2 },
    { msgId: 1012, reqId: 3 },
  );
  expect(await wire.next()).toMatchObject({ reqId: 1, errno: 0 });
  expect(await wire.next()).toMatchObject({ reqId: 2, errno: 18 });
  expect(await wire.next()).toMatchObject({ reqId: 3, errno: 0 });
  wire.close();
});

test("nothing is pushed before the answer to the log-in, also while others keep writing", async () => {
  const carl = await register(server.port);
  const sender = await login(server.port, bob, { device: "writer" });
  let sent = 0;
  let writing = true;
  const writer = (async () => {
    while (writing) await sender.ask({ msgId: 1004, toid: carl.id, msg: `${++sent}` });
  })();
  for (let i = 0; i < 20; i++) {
    const wire = await Wire.connect(server.port);
    wire.send({ msgId: 1002, id: carl.id, password: carl.password, takeover: true }, { msgId: 1012, reqId: "end" });
    expect(await wire.next()).toMatchObject({ msgId: 1003, errno: 0 });
    await wire.next((message) => message.reqId === "end");
    const { seq } = await wire.push(1004);
    expect(await wire.push(1004)).toMatchObject({ seq: (seq as number) + 1 });
  }
  writing = false;
  await writer;
  sender.close();
});

test("what is stored in very many conversations comes oldest first, and is counted", async () => {
  const carl = await register(server.port);
  const wire = await login(server.port, bob, { device: "maker" });
  const reader = await login(server.port, carl);
  const askAll = async (on: Wire, requests: JsonObject[]) => {
    on.send(...requests.map((request, reqId) => ({ ...request, reqId })));
    const answers: JsonObject[] = [];
    for (const _ of requests) answers.push(await on.next(({ reqId }) => reqId === answers.length));
    return answers;
  };
  const made = await askAll(wire, Array(1_200).fill({ msgId: 1006, groupname: "many" }));
  const groups = made.map(({ groupid }) => groupid as number);
  const joined = await askAll(
    reader,
    groups.map((groupid) => ({ msgId: 1007, groupid })),
  );
  expect(joined.every(({ errno }) => errno === 0)).toBe(true);
  await reader.ask({ msgId: 1009 });
  // From the last to the first, in batches of a time each; in every other group two.
  const sent = groups.toReversed().flatMap((groupid, i) => Array<number>(1 + (i % 2)).fill(groupid));
  for (let from = 0; from < sent.length; from += 10)
    await askAll(
      wire,
      sent.slice(from, from + 10).map((groupid) => ({ msgId: 1008, groupid, msg: "stored" })),
    );
  const again = await login(server.port, carl);
  expect(again.answer.offline).toBe(sent.length);
  const pushed: JsonObject[] = [];
  for (const _ of sent) pushed.push(await again.push(1008));
  const times = pushed.map(({ ts }) => ts as number);
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(new Set(times).size).toBeGreaterThan(50);
  // What is of one millisecond may come in any order.
  expect(pushed.map(({ groupid }) => groupid).toSorted()).toEqual(sent.toSorted());
  for (const each of [wire, reader, again]) each.close();
});
