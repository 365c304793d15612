// Twenty times kill -9 under load, on one database: what was acknowledged is stored once, in order, and arrives.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, startServer, temporaryFolder } from "../harness.ts";
import { login, register } from "../wire.ts";
import { compare, FLAWLESS, Peer, readLog, run } from "./crowd.ts";

const ROUNDS = 20;
const WINDOW = 16;
const pause = (from: number, to: number) => from + Math.random() * (to - from);

/** Pairs of senders and receivers, all of them members of one group. */
async function makePeers(port: number): Promise<Peer[]> {
  const users = await Promise.all(Array.from({ length: 8 }, () => register(port)));
  const wires = await Promise.all(users.map((user) => login(port, user)));
  const { groupid } = await wires[0]!.ask({ msgId: MsgId.createGroup, groupname: "all" });
  for (const wire of wires.slice(1)) await wire.ask({ msgId: MsgId.joinGroup, groupid });
  // Everybody lists the first user, and is listed by it.
  for (const [i, wire] of wires.entries()) {
    if (i === 0) continue;
    await wire.ask({ msgId: MsgId.addFriend, friendId: users[0]!.id });
    await wires[0]!.ask({ msgId: MsgId.addFriend, friendId: users[i]!.id });
  }
  for (const wire of wires) wire.close();
  return users.map((user, i) => {
    const receiver = users[i + 4];
    // The last sender gives no mids: what it gets no answer for may be stored or not, but not twice. A sender that
    // does not confirm may lose what the reset destroys that its unread requests bring about.
    const to = receiver === undefined ? [] : [{ toid: receiver.id }, { toid: receiver.id }, { groupid }];
    return new Peer(user, { to, mids: i !== 3, confirms: receiver !== undefined || i % 2 === 1 });
  });
}

test("kill -9 loses nothing that was acknowledged, doubles nothing and keeps nobody online", async () => {
  const data = join(temporaryFolder(), "chat.db");
  let server = await startServer(data);
  const { port } = server;
  const peers = await makePeers(port);
  for (let round = 0; round < ROUNDS; round++) {
    if (round > 0) server = await startServer(data, CHEAP_PASSWORDS, port);
    const logins = Promise.all(peers.map((peer) => peer.connect(port)));
    if (round % 5 === 4) {
      // In the midst of the log-ins and of what is sent again. Who was refused will say so.
      const ended = logins.catch((error: Error) => expect(error.message).not.toContain("refused"));
      await Bun.sleep(pause(0, 30));
      await server.stop("SIGKILL");
      await ended;
    } else {
      await logins;
      // Positions are saved every second: before and after that.
      const end = performance.now() + (round % 5 === 0 ? pause(1_000, 1_300) : pause(20, 400));
      await run(peers, WINDOW, () => performance.now() >= end, "the end of the load");
      await server.stop("SIGKILL");
    }
    await Promise.all(peers.map((peer, i) => peer.lose(i % 2 === 0 || Math.random() < 0.5)));
  }

  server = await startServer(data, CHEAP_PASSWORDS, port);
  const first = await login(port, peers[0]!.user);
  const friends = first.answer.friends as { state: string }[];
  expect(friends.map(({ state }) => state)).toEqual(Array(peers.length - 1).fill("offline"));
  await first.ask({ msgId: MsgId.logout });
  first.close();
  await Promise.all(peers.map((peer) => peer.connect(port)));
  await run(peers, 0, () => peers.every(({ unacked }) => unacked.size === 0), "everything is acknowledged", 20_000);
  const sent = peers.flatMap((peer) => peer.sent);
  const acked = sent.filter(({ seq }) => seq !== null).map((each) => ({ ...each, seq: each.seq!, kind: 0 }));
  await run(peers, 0, () => peers.every((peer) => peer.missing(acked).length === 0), "everything arrives", 20_000);
  for (const peer of peers) await peer.close();
  expect(await server.stop()).toBe(0);

  const stored = readLog(data);
  expect(peers.flatMap(({ faults }) => faults)).toEqual([]);
  expect(compare(stored, sent)).toEqual(FLAWLESS);
  const chats = stored.filter(({ kind }) => kind === MsgId.chat || kind === MsgId.groupChat);
  expect(peers.flatMap((peer) => peer.missing(chats))).toEqual([]);
  const arrived = peers.reduce((sum, { got }) => sum + [...got.values()].reduce((n, { size }) => n + size, 0), 0);
  expect(arrived).toBe(chats.reduce((sum, { conv }) => sum + (conv.startsWith("g:") ? peers.length - 1 : 1), 0));
  // It was a load.
  expect(acked.length).toBeGreaterThan(ROUNDS * 10);
}, 60_000);
