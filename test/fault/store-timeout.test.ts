// The embedded database hangs (somebody else holds its lock): whoever waits for it is told 19 within --store-timeout and stays
// connected. What it still stores is delivered once, and a resend is answered with it.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Errno, type JsonObject, MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, startServer, temporaryFolder } from "../harness.ts";
import { login, register, Wire } from "../wire.ts";

const STORE_TIMEOUT_S = 1;
/** With what a loaded machine adds. */
const ANSWERED_MS = STORE_TIMEOUT_S * 1_000 + 1_500;

test("the embedded database hangs: everything is answered in time, nobody is disconnected, nothing is lost", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const server = await startServer(file, [...CHEAP_PASSWORDS, "--store-timeout", String(STORE_TIMEOUT_S)]);
  const users = await Promise.all(Array.from({ length: 6 }, () => register(server.port)));
  const wires = await Promise.all(users.map((user) => login(server.port, user)));
  const [ann, bob, ...others] = wires as Wire[] as [Wire, Wire, ...Wire[]];
  const toid = users[1]!.id;
  expect((await ann.ask({ msgId: MsgId.chat, toid, msg: "before" })).errno).toBe(0);
  await bob.push(MsgId.chat);
  const { groupid } = await bob.ask({ msgId: MsgId.createGroup, groupname: "before" });

  const lock = new Database(file);
  lock.run("BEGIN IMMEDIATE");
  const startedAt = performance.now();
  const newcomer = await Wire.connect(server.port);
  const { id, password } = users[4]!;
  const asked: [Wire, JsonObject][] = [
    [ann, { msgId: MsgId.chat, toid, msg: "held", mid: "held" }],
    [others[0]!, { msgId: MsgId.addFriend, friendId: toid }],
    [others[1]!, { msgId: MsgId.createGroup, groupname: "group" }],
    [others[3]!, { msgId: MsgId.joinGroup, groupid }],
    [newcomer, { msgId: MsgId.login, id, password, device: "other" }],
  ];
  const answers = await Promise.all(asked.map(([wire, request]) => wire.ask(request)));
  expect(performance.now() - startedAt).toBeLessThan(ANSWERED_MS);
  expect(answers.map(({ errno }) => errno)).toEqual(asked.map(() => Errno.unavailable));
  await newcomer.settle();
  // They come behind one that hangs already, and are not kept waiting for their own turn.
  const late = await Promise.all([
    others[2]!.ask({ msgId: MsgId.friends }),
    ann.ask({ msgId: MsgId.chat, toid, msg: "held", mid: "held" }),
  ]);
  expect(late.map(({ errno }) => errno)).toEqual([Errno.unavailable, Errno.unavailable]);
  expect(performance.now() - startedAt).toBeLessThan(2 * ANSWERED_MS);
  lock.run("ROLLBACK");
  lock.close();

  expect((await bob.push(MsgId.chat)).msg).toBe("held");
  expect((await bob.push(MsgId.addFriend)).id).toBe(users[2]!.id);
  expect((await bob.push(MsgId.joinGroup)).userid).toBe(users[5]!.id);
  const again = await ann.ask({ msgId: MsgId.chat, toid, msg: "held", mid: "held" });
  expect([again.errno, again.seq]).toEqual([0, 2]);
  expect((await ann.ask({ msgId: MsgId.chat, toid, msg: "after" })).errno).toBe(0);
  expect((await bob.next(({ msgId, ack }) => msgId === MsgId.chat && ack === undefined)).msg).toBe("after");
  expect(wires.map(({ ended }) => ended)).toEqual(wires.map(() => false));
  expect((await newcomer.ask({ msgId: MsgId.login, id, password, device: "other" })).errno).toBe(0);
  await server.stop();
});
