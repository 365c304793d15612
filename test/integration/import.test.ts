// `ChatServer import`: the C++ chat server's database becomes a store, and its users go on in it.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type JsonObject, MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, CHEAP_PASSWORDS, type RunningServer, startAs, startServer, temporaryFolder } from "../harness.ts";
import { type RunningMariadb, startMariadb } from "../services.ts";
import { login, Wire } from "../wire.ts";
import { direct, inGroup, kept, predecessor, runImport } from "./import-predecessor.ts";

let mariadb: RunningMariadb;
beforeAll(async () => {
  mariadb = await startMariadb();
}, 30_000);
afterAll(() => mariadb.stop());

const EVERYTHING = [
  `INSERT INTO user (id, name, password) VALUES (13, 'zhang san', '123456'), (15, 'li si', '123456'),
   (19, '刘硕', 'pä''ss\\\\word'), (21, 'gao yang', '666666'), (30, 'short', '123')`,
  "INSERT INTO friend VALUES (13, 15), (13, 21), (21, 13), (21, 15), (13, 15), (13, 99)",
  "INSERT INTO allgroup VALUES (1, 'C++ chat project', 'start develop'), (4, 'left alone', NULL)",
  "INSERT INTO groupuser VALUES (1, 13, 'creator'), (1, 21, 'normal'), (1, 19, 'normal'), (1, 15, NULL), (1, 77, 'normal'), (4, 15, 'normal')",
  kept(15, direct(13, 15, "one")),
  kept(15, inGroup(21, 1, "to 15 and 19")),
  kept(19, inGroup(21, 1, "to 15 and 19")),
  kept(15, direct(13, 15, "two 😀 \"'\\")),
  // Twice, and each time for both.
  kept(15, inGroup(21, 1, "ok")),
  kept(19, inGroup(21, 1, "ok")),
  kept(15, inGroup(21, 1, "ok")),
  kept(19, inGroup(21, 1, "ok")),
  kept(19, inGroup(13, 1, "to 19 and 21")),
  kept(15, inGroup(13, 1, "to 19 and 21")),
  kept(21, inGroup(13, 1, "to 19 and 21")),
  kept(21, { msgId: 1005, id: 13, friendid: 21 }),
  kept(21, '{"msgId":1004,"id":13,"msg":"cut o'),
  kept(21, "[]"),
  kept(21, direct(99, 21, "of nobody")),
  kept(13, inGroup(15, 4, "13 is not in it")),
].join(";\n");

describe.each(["file", "mysql"])("everything, to a %s", (kind) => {
  let server: RunningServer;
  let told: string;
  let passwords: string;

  beforeAll(async () => {
    const from = await predecessor(mariadb, EVERYTHING);
    const folder = temporaryFolder();
    passwords = join(folder, "passwords");
    const flags = ["--from", from, "--new-passwords", passwords];
    if (kind === "file") {
      const data = join(folder, "deep", "chat.db");
      told = (await runImport([...flags, "--data", data])).output;
      expect(existsSync(`${data}.importing`)).toBe(false);
      expect(statSync(data).mode & 0o777).toBe(0o600);
      server = await startServer(data);
    } else {
      const to = await mariadb.database();
      told = (await runImport([...flags, "--to", to])).output;
      server = await startAs([CHAT_SERVER, "0", "--host", "127.0.0.1", "--mysql", to, ...CHEAP_PASSWORDS]);
    }
  }, 60_000);
  afterAll(() => server?.stop());

  const enter = (id: number, password: string, fields: JsonObject = {}) =>
    login(server.port, { id, name: "", password }, fields);
  /** What is pushed after the log-in: all of it, as another request is answered after it. */
  const backlog = async (wire: Wire & { answer: JsonObject }) => {
    const rows = [];
    // Who comes and goes is told in between.
    const isRow = ({ msgId }: JsonObject) => msgId !== MsgId.presence;
    for (let i = 0; i < (wire.answer.offline as number); i++) rows.push(await wire.next(isRow));
    await wire.settle();
    return [...rows, ...wire.rest().filter(isRow)].map(({ msgId, id, msg, conv, seq }) => [msgId, id, msg, conv, seq]);
  };

  test("what was kept for somebody arrives once, in order; nobody else gets it", async () => {
    const on15 = await enter(15, "123456");
    const all = await backlog(on15);
    expect(all.filter(([, , , conv]) => conv === "u:13-15")).toEqual([
      [1004, 13, "one", "u:13-15", 1],
      [1004, 13, "two 😀 \"'\\", "u:13-15", 2],
    ]);
    const group = [
      [1008, 21, "to 15 and 19", "g:1", 1],
      [1008, 21, "ok", "g:1", 2],
      [1008, 21, "ok", "g:1", 3],
      [1008, 13, "to 19 and 21", "g:1", 4],
    ];
    expect(all.filter(([, , , conv]) => conv === "g:1")).toEqual(group);
    expect(all).toHaveLength(6);
    expect(await backlog(await enter(19, "pä'ss\\word"))).toEqual(group);
    const on21 = await enter(21, "666666");
    expect((await backlog(on21)).sort()).toEqual([[1005, 13, "", "u:13-21", 1], group[3]!].sort());
    const on13 = await enter(13, "123456");
    expect(await backlog(on13)).toEqual([]);
    // To none of them again.
    await on15.ask({ msgId: MsgId.logout });
    for (const device of ["", "other"]) expect(await backlog(await enter(15, "123456", { device }))).toEqual([]);
    // What is said now follows, and reaches everybody.
    expect(await on13.ask({ msgId: MsgId.groupChat, groupid: 1, msg: "new" })).toMatchObject({ errno: 0, seq: 5 });
    expect(await on21.push(MsgId.groupChat)).toMatchObject({ msg: "new", seq: 5, time: expect.any(String) });
    expect(await on13.ask({ msgId: MsgId.chat, toid: 15, msg: "new" })).toMatchObject({ errno: 0, seq: 3 });
  });

  test("names, friends and groups with their roles are as they were", async () => {
    const byName = await Wire.connect(server.port);
    const answer = await byName.ask({ msgId: MsgId.login, name: "刘硕", password: "pä'ss\\word", device: "b" });
    expect(answer).toMatchObject({ errno: 0, id: 19, friends: [] });
    expect(answer.groups).toMatchObject([
      {
        id: 1,
        groupname: "C++ chat project",
        groupdesc: "start develop",
        count: 4,
        users: [
          { id: 13, name: "zhang san", role: "creator" },
          { id: 15, role: "normal" },
          { id: 19, role: "normal" },
          { id: 21, role: "normal" },
        ],
      },
    ]);
    const on13 = await enter(13, "123456", { device: "b" });
    expect((on13.answer.friends as JsonObject[]).map(({ id }) => id)).toEqual([15, 21]);
    const on15 = await enter(15, "123456", { device: "b" });
    expect(on15.answer.groups).toMatchObject([{ id: 1 }, { id: 4, users: [{ id: 15, role: "creator" }] }]);
  });

  test("new users and groups get new ids; who had too short a password has a new one", async () => {
    const wire = await Wire.connect(server.port);
    expect(await wire.ask({ msgId: MsgId.register, name: "newcomer", password: "secret1" })).toMatchObject({ id: 31 });
    expect(await wire.ask({ msgId: MsgId.register, name: "li si", password: "secret1" })).toMatchObject({ errno: 1 });
    const [id, name, password] = readFileSync(passwords, "utf8").trim().split("\t");
    expect([id, name]).toEqual(["30", "short"]);
    expect((await enter(30, password!)).answer.name).toBe("short");
  });

  test("what could not be taken over is told", () => {
    for (const line of [
      "friends left out, because there is no such user: 1\n  13 -> 99",
      "members left out, because there is no such user or group: 1\n  user 77 in group 1",
      "groups without a creator, given to their member with the lowest id: 1\n  group 4: user 15",
      "users with a new password, see the file: 1",
      "offline messages left out, because they are malformed: 2\n  for user 21",
      "offline messages left out, because there is no such user: 1\n  for user 21",
      "offline messages left out, because the user is not in the group: 1\n  for user 13",
    ])
      expect(told).toContain(line);
    expect(told).toContain("users: 5 imported");
    expect(told).toContain("messages: 7 imported, of 12 offline rows");
    expect(told).not.toContain("once more");
  });
});

test("many offline messages, for members who left at different times, arrive once each", async () => {
  const members = [1, 2, 3, 4, 5];
  const sql = [`INSERT INTO user (id, name, password) VALUES ${members.map((id) => `(${id}, 'u${id}', 'secret1')`)}`];
  sql.push("INSERT INTO allgroup VALUES (9, 'g', '')");
  sql.push(`INSERT INTO groupuser VALUES ${members.map((id) => `(9, ${id}, ${id === 1 ? "'creator'" : "'normal'"})`)}`);
  // User n has been offline since message 500 n; user 1 says everything.
  const rows: string[] = [];
  for (let i = 0; i < 2_500; i++)
    for (const id of members.slice(1))
      if (i >= 500 * (id - 1)) rows.push(`(${id}, '${JSON.stringify(inGroup(1, 9, `n${i}`))}')`);
  sql.push(`INSERT INTO offlinemessage VALUES ${rows}`);
  const data = join(temporaryFolder(), "chat.db");
  const { output } = await runImport(["--from", await predecessor(mariadb, sql.join(";")), "--data", data]);
  expect(output).toContain("messages: 2,000 imported, of 5,000 offline rows");
  const server = await startServer(data);
  for (const id of members) {
    const wire = await login(server.port, { id, name: "", password: "secret1" });
    const expected = id === 1 ? 0 : 2_500 - 500 * (id - 1);
    expect(wire.answer.offline).toBe(expected);
    const texts: unknown[] = [];
    while (texts.length < expected) texts.push((await wire.push(MsgId.groupChat)).msg);
    expect(texts).toEqual(Array.from({ length: expected }, (_, i) => `n${2_500 - expected + i}`));
    await wire.settle();
    expect(wire.rest()).toEqual([]);
  }
  await server.stop();
}, 60_000);
