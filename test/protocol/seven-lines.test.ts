// The seven lines of the starting system's own test, typed into a plain connection as into nc, with the ids that the
// registrations got: every answer and every push.
import { expect, test } from "bun:test";
import type { Message } from "../../src/protocol.ts";
import { startServer, temporaryFolder } from "../harness.ts";
import { Terminal } from "./terminal.ts";

test("the seven lines, typed by two people", async () => {
  const server = await startServer(`${temporaryFolder()}/chat.db`);
  const [one, two] = [new Terminal(server.port), new Terminal(server.port)];

  one.type('{"msgId":1000,"name":"123","password":"123456"}');
  const { id, ...registered } = await one.read();
  expect(registered as unknown).toEqual({ msgId: 1001, errno: 0 });
  two.type('{"msgId":1000,"name":"456","password":"123456"}');
  const { id: peer } = await two.read();

  one.type(`{"msgId":1002,"id":${id},"password":"123456"}`);
  const { token, ...first } = await one.read();
  expect(first as unknown).toEqual({ msgId: 1003, errno: 0, id, name: "123", friends: [], groups: [], offline: 0 });
  expect(token).toBeString();

  // To one who is offline; the sender is told nothing.
  one.type(`{"msgId":1004,"fromid":${id},"toid":${peer},"msg":"hello"}`);
  one.type('{"msgId":1012}');
  expect(await one.read()).toMatchObject({ msgId: 1010, ack: 1012, errno: 0 });

  two.type(`{"msgId":1002,"id":${peer},"password":"123456"}`);
  expect(await two.read()).toMatchObject({ msgId: 1003, errno: 0, id: peer, name: "456", offline: 1 });
  const conv = `u:${id}-${peer}`;
  const hello = { msgId: 1004, fromid: id, id, name: "123", toid: peer, msg: "hello", conv };
  expect(await two.read()).toMatchObject({ ...hello, seq: 1 });
  // And to one who is online.
  one.type(`{"msgId":1004,"fromid":${id},"toid":${peer},"msg":"hello"}`);
  expect(await two.read()).toMatchObject({ ...hello, seq: 2 });

  one.type(`{"msgId":1005,"id":${id},"friendId":${peer},"msg":"add friend"}`);
  expect((await one.read()) as unknown).toEqual({
    msgId: 1010,
    ack: 1005,
    errno: 0,
    friend: { id: peer, name: "456", state: "online" },
  });
  expect(await two.read()).toMatchObject({
    msgId: 1005,
    id,
    name: "123",
    friendId: peer,
    msg: "add friend",
    conv,
    seq: 3,
  });

  one.type(`{"msgId":1006,"id":${id},"groupname":"zhys","groupdesc":"zhy group"}`);
  const { groupid, ...created } = await one.read();
  expect(created as unknown).toEqual({ msgId: 1010, ack: 1006, errno: 0 });

  two.type(`{"msgId":1007,"id":${peer},"groupid":${groupid}}`);
  expect(await two.read()).toMatchObject({
    msgId: 1010,
    ack: 1007,
    errno: 0,
    group: { id: groupid!, groupname: "zhys", groupdesc: "zhy group", count: 2 },
  });
  expect(await one.read()).toMatchObject({ msgId: 1007, groupid: groupid!, id: peer!, userid: peer!, seq: 1 });

  two.type(`{"msgId":1008,"id":${peer},"groupid":${groupid},"msg":"hello group"}`);
  expect(await one.read()).toMatchObject({
    msgId: 1008,
    id: peer!,
    name: "456",
    groupid: groupid!,
    msg: "hello group",
    conv: `g:${groupid}`,
    seq: 2,
  });

  // Who was added as a friend is listed, and seen going.
  await two.close();
  expect((await one.read()) as unknown).toEqual({ msgId: 1021, id: peer, state: "offline" });
  await one.close();
  expect([one.printed, two.printed]).toEqual([[], []]);
  await server.stop();
});

test("all at once, as a file is piped into nc", async () => {
  const server = await startServer(`${temporaryFolder()}/chat.db`);
  const other = new Terminal(server.port);
  other.type('{"msgId":1000,"name":"other","password":"123456"}');
  expect(await other.read()).toMatchObject({ id: 1 });
  const terminal = new Terminal(server.port);
  terminal.type(
    [
      '{"msgId":1000,"name":"123","password":"123456"}',
      '{"msgId":1002,"id":2,"password":"123456"}',
      '{"msgId":1004,"fromid":2,"toid":1,"msg":"hello"}',
      '{"msgId":1005,"id":2,"friendId":1,"msg":"add friend"}',
      '{"msgId":1006,"id":2,"groupname":"zhys","groupdesc":"zhy group"}',
      '{"msgId":1007,"id":2,"groupid":1}',
      '{"msgId":1008,"id":2,"groupid":1,"msg":"hello group"}',
    ].join("\n"),
  );
  await terminal.close();
  const printed = terminal.printed.map((line) => JSON.parse(line) as Message);
  expect(printed.map(({ msgId, ack, errno }) => [msgId, ack, errno])).toEqual([
    [1001, undefined, 0],
    [1003, undefined, 0],
    [1010, 1005, 0],
    [1010, 1006, 0],
    [1010, 1007, 13],
  ]);
  await other.close();
  await server.stop();
});
