// Nothing can be stored: those who only read are served all the same, and the log tells of it once a second, however many ask.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Errno, type JsonObject, MsgId } from "../../src/protocol.ts";
import { startServer, temporaryFolder } from "../harness.ts";
import { login, register } from "../wire.ts";

const READS = 300;

test("readers beside many senders while nothing can be stored", async () => {
  const server = await startServer(join(temporaryFolder(), "chat.db"));
  const limit = (bytes: string) => Bun.spawnSync(["prlimit", "--pid", String(server.pid), `--fsize=${bytes}:`]);
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const [writer, reader] = [await login(server.port, ann), await login(server.port, bob)];
  const visitor = await login(server.port, bob, { device: "other" });
  await writer.ask({ msgId: MsgId.addFriend, friendId: bob.id });
  expect(limit("4096").exitCode).toBe(0);
  const begunAt = performance.now();
  const refusals = new Set<unknown>();
  for (let read = 0; read < READS; read++) {
    // In one turn of the store's thread with those that fail, most of the time.
    const chat: JsonObject = { msgId: MsgId.chat, toid: bob.id, msg: "x".repeat(1_000) };
    const sends = [1, 2, 3].map((part) => writer.ask({ ...chat, mid: `${read}-${part}` }));
    const [friends, groups] = await Promise.all([
      reader.ask({ msgId: MsgId.friends }),
      visitor.ask({ msgId: MsgId.groups }),
    ]);
    expect([friends.errno, groups.errno]).toEqual([Errno.ok, Errno.ok]);
    for (const { errno } of await Promise.all(sends)) refusals.add(errno);
    const refused = await login(server.port, ann, { device: "another" }).catch((error: Error) => error.message);
    expect(refused).toContain('"errno":19');
  }
  const seconds = (performance.now() - begunAt) / 1_000;
  expect([...refusals]).toEqual([Errno.unavailable]);
  limit("unlimited");
  // The first message, after the event that bob is on a list.
  expect(await writer.ask({ msgId: MsgId.chat, toid: bob.id, msg: "now", mid: "0-1" })).toMatchObject({
    errno: 0,
    seq: 2,
  });
  const troubles = server
    .log()
    .split("\n")
    .filter((line) => / (ERROR|WARN ) /.test(line));
  expect(troubles.length).toBeGreaterThan(0);
  expect(troubles.length).toBeLessThanOrEqual(Math.ceil(seconds) + 1);
  expect(await server.stop()).toBe(0);
});
