// More connections than the process may open files: those that are too many are refused, and the server serves on.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, CHEAP_PASSWORDS, startServer, temporaryFolder } from "../harness.ts";
import { login, register, Wire } from "../wire.ts";

test("a crowd that is too large ends nothing, also when threads are to be started", async () => {
  const data = join(temporaryFolder(), "chat.db");
  const server = await startServer(data, CHEAP_PASSWORDS, 0, { prefix: ["prlimit", "--nofile=200:200"] });
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const wire = await login(server.port, ann);
  const crowd = await Promise.all(Array.from({ length: 600 }, () => Wire.connect(server.port).catch(() => null)));
  // Enough for the first checkpoint, which a thread of its own makes.
  const msg = "x".repeat(50_000);
  for (let n = 1; n <= 400; n++) {
    const { errno } = await wire.ask({ msgId: MsgId.chat, toid: bob.id, msg, mid: `${n}` });
    expect(errno).toBe(0);
  }
  for (const each of crowd) each?.close();
  const next = await login(server.port, bob);
  expect(next.answer.offline).toBe(400);
  expect(await server.stop()).toBe(0);
}, 60_000);

test("too few files for any connection: one line that says so", () => {
  const command = [CHAT_SERVER, "0", "--data", join(temporaryFolder(), "chat.db")];
  const child = Bun.spawnSync(["prlimit", "--nofile=64:64", ...command]);
  expect([child.exitCode, child.stderr.toString()]).toEqual([
    1,
    "ChatServer: a limit of 64 open files is too low: raise it (ulimit -n, LimitNOFILE=) to 1024\n",
  ]);
});
