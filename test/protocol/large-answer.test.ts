// A log-in whose answer would outgrow a frame is refused, and holds neither its connection nor its device.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Errno, MsgId } from "../../src/protocol.ts";
import { startServer, temporaryFolder } from "../harness.ts";
import { login, register, Wire } from "../wire.ts";

/** Of the longest description: together more than 16 MiB. */
const GROUPS = 20_000;

test("a user of too many groups is told so, each time", async () => {
  const data = join(temporaryFolder(), "chat.db");
  let server = await startServer(data);
  const ann = await register(server.port);
  await server.stop();
  const db = new Database(data);
  db.transaction(() => {
    const group = db.prepare("INSERT INTO chat_group (name, description) VALUES ('group', ?)");
    const log = db.prepare("INSERT INTO conversation (kind, lo, hi) VALUES (1, ?, 0)");
    const member = db.prepare("INSERT INTO member (conversation, user_id, role, join_seq) VALUES (?, ?, 'creator', 0)");
    for (let i = 0; i < GROUPS; i++) {
      const { lastInsertRowid: id } = group.run("😀".repeat(200));
      member.run(log.run(id).lastInsertRowid, ann.id);
    }
  })();
  db.close();
  server = await startServer(data);
  const wire = await Wire.connect(server.port);
  const request = { msgId: MsgId.login, id: ann.id, password: ann.password };
  for (let i = 0; i < 2; i++) expect(await wire.ask(request)).toMatchObject({ errno: Errno.tooLarge });
  const other = await Wire.connect(server.port);
  expect(await other.ask(request)).toMatchObject({ errno: Errno.tooLarge });
  const bob = await register(server.port);
  expect((await login(server.port, bob)).answer.errno).toBe(0);
  await server.stop();
}, 60_000);
