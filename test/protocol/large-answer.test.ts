// A user of very many groups with the longest names: the lists are cut, and paged, so that every log-in's answer fits a frame.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { type Message, MsgId } from "../../src/protocol.ts";
import { startServer, temporaryFolder } from "../harness.ts";
import { register, Wire } from "../wire.ts";

/** What grows most as JSON, and once more where it stands in a text of JSON. */
const [LONG_NAME, LONG_TEXT] = ['"'.repeat(50), "\0".repeat(200)];
/** Of these texts: together more than 16 MiB. */
const GROUPS = 20_000;
const MEMBERS = 20;

test("a user of too many groups logs in with the first of them, however it frames, and pages through all", async () => {
  const data = join(temporaryFolder(), "chat.db");
  let server = await startServer(data);
  const ann = await register(server.port);
  await server.stop();
  const db = new Database(data);
  const ids: number[] = [];
  db.transaction(() => {
    const user = db.prepare("INSERT INTO user (name, password) VALUES (?, 'x')");
    const users = Array.from({ length: MEMBERS - 1 }, (_, i) =>
      Number(user.run(LONG_NAME.slice(2) + String(i).padStart(2, "0")).lastInsertRowid),
    );
    const group = db.prepare("INSERT INTO chat_group (name, description) VALUES (?, ?)");
    const log = db.prepare("INSERT INTO conversation (kind, lo, hi) VALUES (1, ?, 0)");
    const member = db.prepare("INSERT INTO member (conversation, user_id, role, join_seq) VALUES (?, ?, 'creator', 0)");
    for (let i = 0; i < GROUPS; i++) {
      const id = Number(group.run(LONG_NAME, LONG_TEXT).lastInsertRowid);
      const conversation = log.run(id).lastInsertRowid;
      for (const each of i < 1_000 ? [ann.id, ...users] : [ann.id]) member.run(conversation, each);
      ids.push(id);
    }
  })();
  db.close();
  server = await startServer(data);
  const request = { msgId: MsgId.login, id: ann.id, password: ann.password, takeover: true };
  const idsOf = ({ groups }: Message, parse: (each: unknown) => unknown = (each) => each) =>
    (groups as unknown[]).map((each) => (parse(each) as { id: number }).id);

  const old = await Wire.connect(server.port, "nul");
  const oldAnswer = await old.ask(request);
  expect(oldAnswer).toMatchObject({ errno: 0, moreGroups: true });
  expect(idsOf(oldAnswer, (each) => JSON.parse(each as string))).toEqual(ids.slice(0, 1_000));
  const wire = await Wire.connect(server.port);
  const answer = await wire.ask(request);
  expect(answer).toMatchObject({ errno: 0, moreGroups: true });
  expect((answer.groups as { users: unknown[] }[]).map(({ users }) => users.length)).toEqual(Array(1_000).fill(15));

  const paged: number[] = [];
  for (let more = true; more; ) {
    const page = await wire.ask({ msgId: MsgId.groups, after: paged.at(-1) ?? 0 });
    paged.push(...idsOf(page));
    more = page.more === true;
  }
  expect(paged).toEqual(ids);
  expect(idsOf(await wire.ask({ msgId: MsgId.groups, after: ids[4], limit: 2 }))).toEqual(ids.slice(5, 7));
  for (const field of [{ after: -1 }, { limit: 0 }, { limit: 1_001 }, { after: "x" }])
    expect(await wire.ask({ msgId: MsgId.groups, ...field })).toMatchObject({
      errno: 14,
      field: Object.keys(field)[0],
    });
  await server.stop();
}, 60_000);
