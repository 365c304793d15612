// The embedded store's thread dies of a bug: the server ends with exit code 1 and a line that says so, for systemd to start it
// again, and nothing that was acknowledged is lost. (What the database answers is another matter: that ends nothing.)
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, startAs, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register } from "../wire.ts";
import { Peer, readLog, run } from "./crowd.ts";

test("a server whose store's thread is dead ends, and starts again with everything", async () => {
  const folder = temporaryFolder();
  const [data, sign] = [join(folder, "chat.db"), join(folder, "die")];
  const source = (path: string) => resolve(import.meta.dir, path);
  const command = [process.execPath, "--preload", source("dying-worker.ts"), source("../../src/main.ts")];
  const flags = ["0", "--host", "127.0.0.1", "--data", data, ...CHEAP_PASSWORDS];
  const server = await startAs([...command, ...flags], {
    env: { PATH: process.env.PATH, HOME: folder, DIE_WHEN: sign },
  });
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const sender = new Peer(ann, { to: [{ toid: bob.id }], mids: true });
  await sender.connect(server.port);
  const acked = () => sender.sent.filter(({ seq }) => seq !== null);
  await run([sender], 16, () => acked().length > 200, "messages are stored");

  writeFileSync(sign, "");
  expect(await server.exited).toBe(1);
  const last = server.log().trimEnd().split("\n").at(-1)!;
  expect(last).toMatch(/^\S+ \S+ ERROR the store's thread has ended, so the server exits: error: a bug of the store/);
  await sender.lose(true);

  const again = await startServer(data);
  const reader = await login(again.port, bob);
  expect(reader.answer.offline).toBeGreaterThanOrEqual(acked().length);
  await until(
    () => reader.received.filter(({ msgId }) => msgId === MsgId.chat).length === reader.answer.offline,
    "all arrive",
  );
  expect(await again.stop()).toBe(0);
  const stored = new Map(readLog(data).map(({ seq, msg }) => [seq, msg]));
  expect(acked().filter(({ seq, msg }) => stored.get(seq!) !== msg)).toEqual([]);
});
