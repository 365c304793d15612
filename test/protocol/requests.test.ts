// Every request by the table of PROTOCOL.md: what it answers when it is right, and errno and field for all that is wrong.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { JsonObject } from "../../src/protocol.ts";
import { type RunningServer, startServer, temporaryFolder } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";

const TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/;
const LONG = "x".repeat(51);

let server: RunningServer;
let ann: User;
let bob: User;
let cid: number;
/** Logged in as ann. */
let wire: Wire;
/** Of ann, and one of bob's that she is not in. */
let group: number;
let bobsGroup: number;
let fresh = 0;

beforeAll(async () => {
  server = await startServer(`${temporaryFolder()}/chat.db`);
  ann = await register(server.port);
  bob = await register(server.port);
  cid = (await register(server.port)).id;
  wire = await login(server.port, ann);
  group = (await wire.ask({ msgId: 1006, groupname: "hikers", groupdesc: "on foot" })).groupid as number;
  const other = await login(server.port, bob);
  bobsGroup = (await other.ask({ msgId: 1006, groupname: "bob's" })).groupid as number;
  other.close();
});

afterAll(() => server.stop());

const freshName = () => `fresh${process.pid}-${++fresh}`;

/** [what, the request, errno, and for 14 the field] */
type Case = [string, () => JsonObject, number, string?];

const NOT_AN_ID = [0, -1, 1.5, "1", true, null, [1], {}, 2 ** 53];
const NOT_A_TEXT = [1, true, null, [], {}];
const NOT_A_FLAG = [1, 0, "true", []];

const bad = (msgId: number, field: string, values: unknown[], rest: () => JsonObject): Case[] =>
  [...values, undefined].map((value) => [
    `${field} ${JSON.stringify(value)?.slice(0, 30) ?? "missing"}`,
    () => ({ ...rest(), msgId, [field]: value as string }),
    14,
    field,
  ]);

/** As `bad`, for a field that may be missing or null. */
const badOptional = (msgId: number, field: string, values: unknown[], rest: () => JsonObject): Case[] =>
  bad(
    msgId,
    field,
    values.filter((value) => value !== null),
    rest,
  ).slice(0, -1);

const notMe = (msgId: number, rest: () => JsonObject): Case[] =>
  ["id", "fromid"].flatMap((field): Case[] => [
    [`${field} of somebody else`, () => ({ ...rest(), msgId, [field]: bob.id }), 11],
    [`${field} of nobody`, () => ({ ...rest(), msgId, [field]: 999_999 }), 11],
    ...badOptional(msgId, field, NOT_AN_ID, rest),
  ]);

const account = () => ({ name: freshName(), password: "secret1" });
const credentials = () => ({ id: ann.id, password: ann.password });
const toBob = () => ({ toid: bob.id, msg: "hello" });
const toGroup = () => ({ groupid: group, msg: "hello" });

/** Before the log-in. */
const ANONYMOUS: [number, Case[]][] = [
  [
    1000,
    [
      ["the shortest", () => ({ msgId: 1000, name: String.fromCodePoint(0x4e00 + ++fresh), password: "123456" }), 0],
      ["the longest", () => ({ msgId: 1000, name: freshName().padEnd(50, "é"), password: "ü".repeat(64) }), 0],
      ["50 characters beyond the BMP", () => ({ ...account(), msgId: 1000, name: "😀".repeat(50) }), 0],
      ["a name that is taken", () => ({ ...account(), msgId: 1000, name: ann.name }), 1],
      ...bad(1000, "name", [...NOT_A_TEXT, "", LONG, "😀".repeat(51), "a\nb", "\u0000"], account),
      ...bad(1000, "password", [...NOT_A_TEXT, "", "12345", "x".repeat(129), "ü".repeat(65)], account),
    ],
  ],
  [
    1002,
    [
      ["a wrong password", () => ({ msgId: 1002, id: ann.id, password: "secret2" }), 3],
      ["an unknown id", () => ({ msgId: 1002, id: 999_999, password: "secret1" }), 3],
      ["an unknown name", () => ({ msgId: 1002, name: freshName(), password: "secret1" }), 3],
      ["no id and no name", () => ({ msgId: 1002, password: "secret1" }), 14, "id"],
      ["a token that is none", () => ({ msgId: 1002, id: ann.id, token: "x" }), 3],
      ["a token without an id", () => ({ msgId: 1002, name: ann.name, token: "x" }), 14, "id"],
      ["a token too long", () => ({ msgId: 1002, id: ann.id, token: "x".repeat(10_000) }), 14, "token"],
      ...badOptional(1002, "id", NOT_AN_ID, credentials),
      ...badOptional(1002, "name", [1, "", LONG], () => ({ password: "secret1" })),
      ...bad(1002, "password", [...NOT_A_TEXT, "", "12345", "x".repeat(129)], credentials),
      ...badOptional(1002, "token", [1, "", []], credentials),
      ...badOptional(1002, "device", [1, {}, "x".repeat(65)], credentials),
      ...badOptional(1002, "takeover", NOT_A_FLAG, credentials),
      ...badOptional(1002, "confirm", NOT_A_FLAG, credentials),
    ],
  ],
  [1012, [["a heartbeat", () => ({ msgId: 1012 }), 0]]],
  [1004, [["a message", () => ({ ...toBob(), msgId: 1004 }), 10]]],
  [1005, [["a friend", () => ({ msgId: 1005, friendId: bob.id }), 10]]],
  [1006, [["a group", () => ({ msgId: 1006, groupname: "g" }), 10]]],
  [1007, [["a group", () => ({ msgId: 1007, groupid: group }), 10]]],
  [1008, [["a message", () => ({ ...toGroup(), msgId: 1008 }), 10]]],
  [1009, [["a log-out", () => ({ msgId: 1009 }), 10]]],
  [1011, [["a confirmation", () => ({ msgId: 1011, conv: "u:1-2", seq: 1 }), 10]]],
  [1014, [["a list", () => ({ msgId: 1014 }), 10]]],
  [1015, [["a list", () => ({ msgId: 1015 }), 10]]],
];

/** Of ann's session. */
const LOGGED_IN: [number, Case[]][] = [
  [1000, [["another account", () => ({ ...account(), msgId: 1000 }), 0]]],
  [
    1002,
    [
      ["the same user again", () => ({ ...credentials(), msgId: 1002 }), 13],
      ["another user", () => ({ msgId: 1002, id: bob.id, password: bob.password, takeover: true }), 13],
    ],
  ],
  [
    1004,
    [
      ["a message", () => ({ ...toBob(), msgId: 1004 }), 0],
      ["a message by its sender", () => ({ ...toBob(), msgId: 1004, fromid: ann.id, id: ann.id }), 0],
      ["an empty message", () => ({ ...toBob(), msgId: 1004, msg: "" }), 0],
      ["to oneself", () => ({ ...toBob(), msgId: 1004, toid: ann.id }), 0],
      ["to nobody", () => ({ ...toBob(), msgId: 1004, toid: 999_999 }), 12],
      ...notMe(1004, toBob),
      ...bad(1004, "toid", NOT_AN_ID, toBob),
      ...bad(1004, "msg", NOT_A_TEXT, toBob),
      ...badOptional(1004, "mid", [1, "", "x".repeat(65), []], toBob),
    ],
  ],
  [
    1005,
    [
      ["nobody", () => ({ msgId: 1005, friendId: 999_999 }), 12],
      ["oneself", () => ({ msgId: 1005, friendId: ann.id }), 14, "friendId"],
      ["a friend", () => ({ msgId: 1005, id: ann.id, friendId: bob.id, msg: "it is me" }), 0],
      ["with a long word", () => ({ msgId: 1005, friendId: cid, msg: "x".repeat(60_000) }), 0],
      ["a friend again", () => ({ msgId: 1005, friendId: bob.id }), 13],
      ...notMe(1005, () => ({ friendId: bob.id })),
      ...bad(1005, "friendId", NOT_AN_ID, () => ({})),
      ...badOptional(1005, "msg", [1, []], () => ({ friendId: bob.id })),
    ],
  ],
  [
    1006,
    [
      ["the longest", () => ({ msgId: 1006, groupname: "é".repeat(50), groupdesc: "😀".repeat(200), id: ann.id }), 0],
      ["the same name again", () => ({ msgId: 1006, groupname: "é".repeat(50) }), 0],
      ...notMe(1006, () => ({ groupname: "g" })),
      ...bad(1006, "groupname", [...NOT_A_TEXT, "", LONG, "a\u0007"], () => ({})),
      ...badOptional(1006, "groupdesc", [1, "x".repeat(201)], () => ({ groupname: "g" })),
    ],
  ],
  [
    1007,
    [
      ["a group", () => ({ msgId: 1007, id: ann.id, groupid: bobsGroup }), 0],
      ["a group again", () => ({ msgId: 1007, groupid: bobsGroup }), 13],
      ["one's own group", () => ({ msgId: 1007, groupid: group }), 13],
      ["no group", () => ({ msgId: 1007, groupid: 999_999 }), 12],
      ...notMe(1007, () => ({ groupid: group })),
      ...bad(1007, "groupid", NOT_AN_ID, () => ({})),
    ],
  ],
  [
    1008,
    [
      ["a message", () => ({ ...toGroup(), msgId: 1008 }), 0],
      ["a message by its sender", () => ({ ...toGroup(), msgId: 1008, id: ann.id, mid: "a".repeat(64) }), 0],
      ["to no group", () => ({ ...toGroup(), msgId: 1008, groupid: 999_999 }), 12],
      ...notMe(1008, toGroup),
      ...bad(1008, "groupid", NOT_AN_ID, toGroup),
      ...bad(1008, "msg", NOT_A_TEXT, toGroup),
      ...badOptional(1008, "mid", [1, "", "x".repeat(65)], toGroup),
    ],
  ],
  [1009, [...notMe(1009, () => ({})), ...badOptional(1009, "revoke", NOT_A_FLAG, () => ({}))]],
  [
    1011,
    [
      ["what was never sent", () => ({ msgId: 1011, conv: "u:1-2", seq: 1_000 }), 14, "seq"],
      ...bad(1011, "conv", [...NOT_A_TEXT, "", "u:2-1", "u:1", "g:0", "g:x", "u:01-2", " g:1"], () => ({ seq: 1 })),
      ...bad(1011, "seq", [...NOT_AN_ID], () => ({ conv: "g:1" })),
    ],
  ],
  [1012, [["a heartbeat", () => ({ msgId: 1012 }), 0]]],
  [1014, [["a list", () => ({ msgId: 1014 }), 0]]],
  [
    1015,
    [
      ["a list", () => ({ msgId: 1015 }), 0],
      ["a page", () => ({ msgId: 1015, groupid: group, after: 0, limit: 1000 }), 0],
      ["no group", () => ({ msgId: 1015, groupid: 999_999 }), 12],
      ...badOptional(1015, "groupid", NOT_AN_ID, () => ({})),
      ...badOptional(1015, "after", [-1, "1", 1.5], () => ({ groupid: group })),
      ...badOptional(1015, "limit", [0, 1001, "1"], () => ({ groupid: group })),
    ],
  ],
];

/** Not requests, or not yet. */
const UNKNOWN = [0, -1, 1, 999, 1001, 1003, 1010, 1013, 1021, 1028, 1029, 2 ** 31, 2 ** 53 - 1].concat([
  1016, 1017, 1018, 1019, 1020, 1022, 1023, 1024, 1025, 1026, 1027,
]);

async function check(on: Wire, [what, request, errno, field]: Case): Promise<void> {
  const asked = request();
  const reqId = ++fresh % 2 === 0 ? fresh : `id${fresh}`;
  const answer: JsonObject = { ...(await on.ask({ ...asked, reqId })), what };
  const { msgId } = asked;
  expect(answer).toMatchObject({ what, reqId, errno, msgId: msgId === 1000 ? 1001 : msgId === 1002 ? 1003 : 1010 });
  expect(answer.ack).toBe(msgId === 1000 || msgId === 1002 ? undefined : msgId);
  expect(answer.field).toBe(field);
  if (errno === 0) expect(answer.errmsg).toBeUndefined();
  else expect((answer.errmsg as string).length).toBeGreaterThan(5);
  // It names the field or the id.
  if (field !== undefined) expect(answer.errmsg as string).toContain(field);
  if (errno === 12) expect(answer.errmsg as string).toContain("999999");
}

describe("before the log-in", () => {
  for (const [msgId, cases] of ANONYMOUS)
    test(`${msgId}`, async () => {
      const anonymous = await Wire.connect(server.port);
      for (const each of cases) await check(anonymous, each);
      anonymous.close();
    });
});

describe("logged in", () => {
  for (const [msgId, cases] of LOGGED_IN)
    test(`${msgId}`, async () => {
      for (const each of cases) await check(wire, each);
    });

  test("what is no request, or not yet, is 17, and the connection stays", async () => {
    for (const msgId of UNKNOWN) await check(wire, ["", () => ({ msgId }), 17]);
    await wire.settle();
  });

  test("a group that one is not in: 11", async () => {
    const stranger = await login(server.port, await register(server.port));
    await check(stranger, ["", () => ({ ...toGroup(), msgId: 1008, mid: "m" }), 11]);
    await check(stranger, ["", () => ({ msgId: 1015, groupid: group }), 11]);
    stranger.close();
  });

  test("unknown fields are ignored, and null is as good as missing", async () => {
    const extra = { color: "red", nested: [{ a: [null] }], fromid: null, id: null, mid: null };
    await check(wire, ["", () => ({ ...toBob(), ...extra, msgId: 1004 }), 0]);
  });

  test("reqId is a string up to 64 characters or an integer: else 14, and nothing is done", async () => {
    for (const reqId of [0, -5, "", "x".repeat(64), "😀".repeat(64)])
      expect(await wire.ask({ msgId: 1012, reqId })).toMatchObject({
        reqId,
        errno: 0,
        time: expect.stringMatching(TIME),
      });
    for (const reqId of [1.5, true, [], {}, "x".repeat(65), 2 ** 53]) {
      wire.send({ msgId: 1006, groupname: "not made", reqId });
      const answer = await wire.next();
      expect(answer).toMatchObject({ msgId: 1010, ack: 1006, errno: 14, field: "reqId" });
      expect(answer.reqId).toBeUndefined();
    }
    expect(JSON.stringify((await wire.ask({ msgId: 1015 })).groups)).not.toContain("not made");
  });

  test("a failed 1004 or 1008 echoes its mid as a stored one does", async () => {
    for (const mid of ["m1", "😀".repeat(64)]) {
      for (const request of [
        { ...toBob(), toid: 999_999, msgId: 1004 },
        { ...toBob(), msg: 5, msgId: 1004 },
      ])
        expect(await wire.ask({ ...request, mid })).toMatchObject({ mid, ack: 1004 });
      expect(await wire.ask({ ...toGroup(), groupid: 999_999, msgId: 1008, mid })).toMatchObject({ errno: 12, mid });
    }
  });

  test("without reqId there is none in the answer", async () => {
    wire.send({ msgId: 1012 });
    expect(await wire.next()).not.toHaveProperty("reqId");
  });
});
