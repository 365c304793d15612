// ./ChatClient with lines from a pipe: what they do, what it shows, and what it says when something is wrong.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join, resolve } from "node:path";
import type { GroupChanged, LoggedIn } from "../../src/client/events.ts";
import { Show } from "../../src/client/show.ts";
import { MsgId } from "../../src/protocol.ts";
import { connectionsOf } from "../fault/kernel.ts";
import { CHAT_CLIENT, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User } from "../wire.ts";
import { endClients, environment, logInLine, running } from "./client-process.ts";
import { FakeServer, LOGIN } from "./stand-ins.ts";

let server: RunningServer;

beforeAll(async () => {
  server = await startServer(join(temporaryFolder(), "chat.db"));
});

afterAll(async () => {
  endClients();
  await server.stop();
});

/** Runs the client with `lines` on a pipe, to its end. */
async function pipe(port: number, lines: string, args = ["127.0.0.1", String(port)]) {
  const client = Bun.spawn([CHAT_CLIENT, ...args], {
    stdin: Buffer.from(lines),
    stdout: "pipe",
    stderr: "pipe",
    env: environment(),
    cwd: temporaryFolder(),
  });
  running.add(client);
  const [out, err, code] = await Promise.all([client.stdout.text(), client.stderr.text(), client.exited]);
  running.delete(client);
  return { out, lines: out.split("\n").slice(0, -1), err, code };
}

/** A message's line, whenever it was sent. */
const TIME = String.raw`\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]`;
const line = (text: string): RegExp => new RegExp(`^${TIME} ${text.replace(/[()[\]|]/g, "\\$&")}$`, "m");

test("the seven lines of the starting system, typed as they are", async () => {
  const registered = await pipe(server.port, '{"msgId":1000,"name":"123","password":"123456"}\n');
  expect(registered.lines).toEqual([expect.stringMatching(/^Registered: your id is \d+\.$/)]);
  const a = Number(/\d+/.exec(registered.out)![0]);
  const other = await register(server.port, "123456");
  const b = other.id;
  const first = await pipe(
    server.port,
    [
      `{"msgId":1002,"id":${a},"password":"123456"}`,
      `{"msgId":1004,"fromid":${a},"toid":${b},"msg":"hello"}`,
      `{"msgId":1005,"id":${a},"friendId":${b},"msg":"add friend"}`,
      `{"msgId":1006,"id":${a},"groupname":"zhys","groupdesc":"zhy group"}`,
      "",
    ].join("\n"),
  );
  expect([first.err, first.code]).toEqual(["", 0]);
  expect(first.out).toContain(`Logged in as 123 (${a}).`);
  expect(first.out).toMatch(line(`sent to user ${b}`));
  expect(first.out).toContain(`${other.name} (${b}) is now on your list, and offline.`);
  const groupid = Number(/^#(\d+) zhys is created/m.exec(first.out)![1]);
  const second = await pipe(
    server.port,
    [
      `{"msgId":1002,"id":${b},"password":"123456"}`,
      `{"msgId":1007,"id":${b},"groupid":${groupid}}`,
      // The last line need not end.
      `{"msgId":1008,"id":${b},"groupid":${groupid},"msg":"hello group"}`,
    ].join("\n"),
  );
  expect(second.out).toContain("2 stored messages follow:");
  expect(second.out).toMatch(line(`123 (${a}): hello`));
  expect(second.out).toMatch(
    line(`123 (${a}) added you to their list: add friend (addfriend:${a} adds them to yours)`),
  );
  expect(second.out).toContain(`You are now in #${groupid} zhys, with 2 members.`);
  expect(second.out).toMatch(line(`sent to #${groupid} zhys`));
  const third = await pipe(server.port, `{"msgId":1002,"id":${a},"password":"123456"}\n`);
  expect(third.out).toMatch(line(`#${groupid} zhys · ${other.name} (${b}) joined`));
  expect(third.out).toMatch(line(`#${groupid} zhys · ${other.name} (${b}): hello group`));
});

test("a line of a pipe ends at LF, with or without a CR before it, and nowhere else", async () => {
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const texts = ["one\u2028quit", "two\rquit", "three\u2029quit"];
  const { out, code } = await pipe(
    server.port,
    `${logInLine(ann)}${texts.map((text) => `chat:${bob.id}:${text}\n`).join("")}chat:${bob.id}:four\r\nquit`,
  );
  expect([out.match(/ sent to /g)?.length, code]).toEqual([4, 0]);
  const wire = await login(server.port, bob);
  for (const text of [...texts, "four"]) expect((await wire.push(MsgId.chat)).msg).toBe(text);
  wire.close();
});

test("lines of a pipe may come late: a connection that nobody needs is no reason to give up", async () => {
  const strict = await startServer(join(temporaryFolder(), "chat.db"), ["--login-timeout", "1"]);
  const ann = await register(strict.port);
  const source = (path: string) => resolve(import.meta.dir, path);
  const command = [process.execPath, "--preload", source("impatient.ts"), source("../../src/client/main.ts")];
  const client = Bun.spawn([...command, "127.0.0.1", String(strict.port)], {
    stdin: "pipe",
    stdout: "pipe",
    env: environment(),
  });
  running.add(client);
  await until(() => connectionsOf(strict.port).length > 0, "it is connected");
  await until(() => connectionsOf(strict.port).length === 0, "the server has ended the connection");
  // Longer than a connection that is needed may be away there.
  await Bun.sleep(1_000);
  client.stdin.write(logInLine(ann));
  client.stdin.end();
  expect(await client.stdout.text()).toContain(`Logged in as ${ann.name}`);
  expect(await client.exited).toBe(0);
  await strict.stop();
});

test("the starting client's commands", async () => {
  const ann = await register(server.port);
  const bob = await register(server.port);
  const wire = await login(server.port, bob);
  const { out, code, err } = await pipe(
    server.port,
    `${logInLine(ann)}${[
      `chat:${bob.id}:see: you at 10:30`,
      `addfriend:${bob.id}:it is me: ann`,
      "creategroup:hikers:on foot: slowly\r",
      "friends",
      "groups",
      "help",
      "loginout",
    ].join("\n")}\n`,
  );
  expect([code, err]).toEqual([0, ""]);
  expect((await wire.push(MsgId.chat)).msg).toBe("see: you at 10:30");
  expect((await wire.push(MsgId.addFriend)).msg).toBe("it is me: ann");
  expect(out).toContain(`Friends:\n  ${bob.name} (${bob.id}) online\n`);
  expect(out).toMatch(/^Groups:\n {2}#\d+ hikers: on foot: slowly \(1 member\)$/m);
  expect(out).toMatch(/^ {2}groupchat:ID:MESSAGE +write to a group$/m);
  expect(out).toEndWith("Logged out.\n");
  const groupid = Number(/#(\d+) hikers/.exec(out)![1]);
  const joined = await pipe(
    server.port,
    `${logInLine(ann)}groupchat:${groupid}:hi: all\naddgroup:${groupid}\nquit\nchat`,
  );
  expect(joined.out).toMatch(line(`sent to #${groupid} hikers`));
  expect(joined.lines.at(-1)).toBe(`error 13 ALREADY_DONE: groupid: you are already in group ${groupid}`);
  wire.close();
});

test("what is wrong is said in a line, and the next line is taken", async () => {
  const ann = await register(server.port);
  const { lines, code } = await pipe(
    server.port,
    `chat:1:too early\n\n{"msgId":1004,"toid":1,"msg":"x"}\n{"msgId":\n{"a":1}\n${logInLine(ann)}${[
      "hello",
      "chat:bob:hi",
      "addgroup",
      '{"msgId":1004,"toid":"bob","msg":"x"}',
      "chat:999999:anybody?",
      '{"msgId":1012}',
    ].join("\n")}`,
  );
  expect(lines).toEqual([
    'Log in first: 1 on a terminal, or {"msgId":1002,"id":YOUR_ID,"password":"YOUR_PASSWORD"}',
    "error 10 NOT_LOGGED_IN: msgId: log in (1002) before request 1004",
    expect.stringMatching(/^Not sent, not a valid request: /),
    "Not sent, not a valid request: a request is a JSON object with an integer msgId",
    `Logged in as ${ann.name} (${ann.id}).`,
    expect.stringContaining("No friends yet"),
    expect.stringContaining("No groups yet"),
    'There is no command "hello": help lists them.',
    "Usage: chat:ID:MESSAGE",
    "Usage: addgroup:ID",
    "error 14 INVALID_FIELD: toid: a positive integer",
    expect.stringMatching(/^error 12 NOT_FOUND: toid: /),
    expect.stringMatching(/^\{"msgId":1010,"ack":1012,"reqId":\d+,"errno":0,/),
  ]);
  // Who runs it from a script is told too.
  expect(code).toBe(1);
});

test("a request typed as JSON is sent as it stands, with a reqId at most", async () => {
  const fake = new FakeServer(({ msgId, reqId }, reply) =>
    reply({ ...LOGIN, msgId: msgId === 1002 ? 1003 : 1010, reqId }),
  );
  const odd = '{ "msgId": 4711, "n": 12345678901234567890, "s": "\\u00e9}", "reqId": "mine" }';
  await pipe(fake.port, `${odd}\n  {"msgId":4712,"a":[{}] }  \n`);
  expect(fake.bytes.toString()).toContain(odd);
  expect(fake.bytes.toString()).toMatch(/\{"msgId":4712,"a":\[\{\}\] ,"reqId":\d+\}/);
  fake.stop();
});

test("nothing that arrives can do anything to a terminal", async () => {
  const evil = await register(server.port);
  const ann = await register(server.port);
  const wire = await login(server.port, evil);
  await wire.ask({ msgId: MsgId.chat, toid: ann.id, msg: "a\u001b[2Jb\u0007c\r\nd\u009b31me\u202ef\u007f", mid: "1" });
  await wire.ask({ msgId: MsgId.createGroup, groupname: "g", groupdesc: "\u009b2J\u001b]0;title\u0007" });
  const { out } = await pipe(server.port, logInLine(ann));
  expect(out).toContain("a␛[2Jb␇c␍␊d\ufffd31me\ufffdf␡\n");
  const groups = await pipe(server.port, `{"msgId":1009}\n${logInLine(evil).replace("}", ',"takeover":true}')}`);
  expect(groups.out).toContain("g: \ufffd2J␛]0;title␇");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not come out
  for (const text of [out, groups.out]) expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  wire.close();
});

test("a server that is none can do nothing to the terminal either, nor end the client", async () => {
  const evil = "\u001b]0;title\u0007";
  const fake = new FakeServer(({ msgId, reqId }, reply) => {
    if (msgId === MsgId.friends) return reply({ msgId: 1010, ack: msgId, reqId, errno: evil, errmsg: evil });
    if (msgId !== MsgId.login) return reply({ msgId: 1010, ack: msgId, reqId, errno: 0, id: evil, groupid: evil });
    const group = { id: evil, groupname: 5, groupdesc: null, count: evil, users: [{ id: evil, name: [evil] }] };
    reply({ ...LOGIN, reqId, offline: evil, name: { evil }, friends: [{ id: evil, name: 7 }], groups: [group] });
    reply({
      msgId: 1004,
      id: evil,
      name: 5,
      msg: { replace: evil },
      time: evil,
      conv: "u:1-2",
      seq: 1,
      mid: "m",
      ts: 1,
    });
    reply({ msgId: 1021, id: evil, state: [evil] });
    reply({ msgId: 1003, friends: 5, errno: 0 });
  });
  const { out, err, code } = await pipe(
    fake.port,
    `${logInLine({ id: 1, password: "password" } as User)}addfriend:2\ncreategroup:x\naddgroup:3\nfriends\n{"msgId":1000}\n`,
  );
  expect([err, code]).toEqual(["", 1]);
  expect(out).toContain("your id is ␛]0;title␇");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not come out
  expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
  fake.stop();
  const leaving = new FakeServer((_, reply) => reply({ msgId: MsgId.notice, errno: 20, errmsg: `bye${evil}` }));
  expect((await pipe(leaving.port, "")).err).toBe(`ChatClient: 127.0.0.1 port ${leaving.port}: bye␛]0;title␇\n`);
  leaving.stop();
});

test("events are lines", () => {
  const show = new Show(false);
  show.login({ ...LOGIN, friends: [{ id: 2, name: "bob", state: "online" }] } as LoggedIn);
  show.groupList([{ id: 3, groupname: "hikers", groupdesc: "", count: 1, users: [] }]);
  const row = { id: 2, name: "bob", time: "T", ts: 0, conv: "g:3", seq: 1 };
  const change = (msgId: number, userid: number, role?: string) =>
    show.groupChanged({ ...row, msgId, groupid: 3, userid, role } as GroupChanged);
  expect([
    show.presence({ msgId: 1021, id: 2, state: "offline" }).replace(/^\S+ \S+ /, ""),
    show.message({ ...row, msgId: 1004, fromid: 2, toid: 1, msg: "hello" }),
    show.message({ ...row, msgId: 1004, id: 1, fromid: 1, toid: 2, msg: "from my other device" }),
    show.message({ ...row, msgId: 1004, id: 1, fromid: 1, toid: 1, msg: "note" }),
    show.groupMessage({ ...row, msgId: 1008, groupid: 3, msg: "hi" }),
    change(1007, 2),
    change(1017, 2),
    change(1018, 9),
    change(1019, 2),
    change(1020, 9, "admin"),
    show.friendAdded({ ...row, msgId: 1005, friendId: 1, msg: "" }),
  ]).toEqual([
    "bob (2) is offline",
    "[T] bob (2): hello",
    "[T] you to bob (2): from my other device",
    "[T] you to yourself: note",
    "[T] #3 hikers · bob (2): hi",
    "[T] #3 hikers · bob (2) joined",
    "[T] #3 hikers · bob (2) left",
    "[T] #3 hikers · bob (2) removed user 9",
    "[T] #3 hikers · bob (2) dissolved the group",
    "[T] #3 hikers · bob (2) made user 9 admin",
    "[T] bob (2) added you to their list (addfriend:2 adds them to yours)",
  ]);
});

test("no server, and wrong arguments: one line that says what to do", async () => {
  const hint = "127.0.0.1 port 1 cannot be reached: nothing listens there: start the server, or give another HOST PORT";
  expect(await pipe(1, "")).toMatchObject({ out: "", err: `ChatClient: ${hint}\n`, code: 1 });
  const secret = await pipe(0, "", ["127.0.0.1", String(server.port), "--tls"]);
  expect(secret).toMatchObject({ out: "", code: 1 });
  expect(secret.err).toEndWith("it does not use TLS: connect without TLS: see --tls in --help\n");
  const full = Bun.spawn(["sh", "-c", `echo help | ${CHAT_CLIENT} 127.0.0.1 ${server.port} >/dev/full`], {
    stderr: "pipe",
  });
  expect(await full.stderr.text()).toBe("ChatClient: cannot write to standard output (ENOSPC)\n");
  expect(await full.exited).toBe(1);
  const wrong = ["6000", "127.0.0.1:6000", "[::1]:6000", "127.0.0.1 0", "127.0.0.1 x", "127.0.0.1 6000 7", "--colour"];
  for (const args of wrong.map((each) => each.split(" "))) {
    const { out, err, code } = await pipe(0, "", args);
    expect([args, out, code]).toEqual([args, "", 2]);
    expect(err).toMatch(/^ChatClient: [^\n]+\n$/);
  }
  expect(await pipe(0, "", ["--version"])).toMatchObject({ out: expect.stringMatching(/^ChatClient \S+ \(/), code: 0 });
  expect(await pipe(0, "", ["--help"])).toMatchObject({ out: expect.stringContaining("HOST"), code: 0 });
});
