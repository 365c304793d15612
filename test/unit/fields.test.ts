// The field checks of requests: what each lets through, and the error 14 that names the field where it does not.
import { describe, expect, test } from "bun:test";
import * as field from "../../src/protocol.ts";
import { ChatError, Errno, type Json, type JsonObject } from "../../src/protocol.ts";

/** What the check makes of this value of the field; the refused field's name where it is refused. */
function check<T>(read: (message: JsonObject) => T, message: JsonObject): T | { refused: unknown; errno: number } {
  try {
    return read(message);
  } catch (error) {
    if (!(error instanceof ChatError)) throw error;
    // The sentence names the field and says what is allowed.
    expect(error.errmsg).toMatch(/^\w+: .{10,}/);
    if (error.errno === Errno.invalidField) expect(error.errmsg).toStartWith(`${error.extra.field}: `);
    return { refused: error.extra.field, errno: error.errno };
  }
}

const refused = (name: string) => ({ refused: name, errno: 14 });

/** Values of every type but these. */
const others = (...types: string[]): (Json | undefined)[] =>
  [undefined, null, true, false, 0, 1, 1.5, "", "text", [], ["text"], {}, { id: 1 }].filter(
    (value) => !types.includes(value === null ? "null" : typeof value),
  );

const EMOJI = "😀";

describe("text", () => {
  const groupdesc = (value: Json | undefined) => check((m) => field.text(m, "groupdesc", 1, 5), { groupdesc: value });

  test("is counted in characters, not in units or bytes", () => {
    for (const good of ["a", "abcde", "é€é€é", EMOJI.repeat(5), "e\u0301e\u0301e"]) expect(groupdesc(good)).toBe(good);
    for (const bad of [
      "",
      "abcdef",
      EMOJI.repeat(6),
      `${EMOJI.repeat(5)}a`,
      "x".repeat(100_000),
      EMOJI.repeat(100_000),
    ])
      expect(groupdesc(bad)).toEqual(refused("groupdesc"));
    expect(check((m) => field.text(m, "msg", 0, 5), { msg: "" })).toBe("");
  });

  test("is nothing but a text", () => {
    for (const value of others("string")) expect(groupdesc(value)).toEqual(refused("groupdesc"));
  });

  test("may be left out where it is optional, and is checked where it is not", () => {
    const read = (m: JsonObject) => field.optionalText(m, "msg", 5);
    expect([check(read, {}), check(read, { msg: null }), check(read, { msg: "" })]).toEqual(["", "", ""]);
    expect([check(read, { msg: "abcde" }), check(read, { msg: "abcdef" })]).toEqual(["abcde", refused("msg")]);
    for (const value of others("string", "undefined", "null"))
      expect(check(read, { msg: value })).toEqual(refused("msg"));
  });
});

describe("a name", () => {
  const name = (value: Json | undefined) => check((m) => field.name(m, "groupname"), { groupname: value });

  test("has 1 to 50 characters", () => {
    for (const good of ["a", "名前", " ", "a".repeat(50), EMOJI.repeat(50), "Zoë O'Neil-123"])
      expect(name(good)).toBe(good);
    for (const bad of ["", "a".repeat(51), EMOJI.repeat(51)]) expect(name(bad)).toEqual(refused("groupname"));
    for (const value of others("string")) expect(name(value)).toEqual(refused("groupname"));
  });

  test("is normalised, and counted after that", () => {
    expect(name("e\u0301")).toBe("\u00e9");
    expect(name("e\u0301".repeat(50))).toBe("\u00e9".repeat(50));
    expect(name("\u03b1\u0313\u0300\u0345".repeat(50))).toBe("\u1f82".repeat(50));
    expect(name("e\u0301".repeat(51))).toEqual(refused("groupname"));
    // Longer in NFC than it was.
    expect(name("\ufb2c".repeat(16))).toBe("\u05e9\u05bc\u05c1".repeat(16));
    expect(name("\ufb2c".repeat(17))).toEqual(refused("groupname"));
  });

  test("a frame full of combining marks does not stop everybody else while it is normalised", () => {
    // This one takes 2.5 s to normalise, and its like in the largest frame hours.
    const marks = `a${"\u0301".repeat(16_000)}${"\u0316".repeat(16_000)}`;
    const start = performance.now();
    expect(name(marks)).toEqual(refused("groupname"));
    expect(check((m) => field.device(m), { device: marks })).toEqual(refused("device"));
    expect(performance.now() - start).toBeLessThan(1000);
  });

  test("has no control character", () => {
    const controls = Array.from({ length: 0xa0 }, (_, code) => code).filter((code) => code < 0x20 || code >= 0x7f);
    for (const code of controls) expect(name(`a${String.fromCharCode(code)}b`)).toEqual(refused("groupname"));
    for (const good of ["\u0020", "\u007e", "\u00a0", "\u200b", "\uFEFF"]) expect(name(`a${good}b`)).toBe(`a${good}b`);
  });
});

test("a device has at most 64 characters after it is normalised, and may be left out", () => {
  const device = (value: Json | undefined) => check(field.device, { device: value });
  expect([device(undefined), device(null), device(""), device("phone")]).toEqual(["", "", "", "phone"]);
  expect(check(field.device, {})).toBe("");
  expect(device("e\u0301".repeat(64))).toBe("\u00e9".repeat(64));
  expect(device(EMOJI.repeat(64))).toBe(EMOJI.repeat(64));
  for (const bad of ["a".repeat(65), "\ufb2c".repeat(22), ...others("string", "undefined", "null")])
    expect(device(bad)).toEqual(refused("device"));
});

test("a password has 6 to 128 bytes, of whatever characters", () => {
  const password = (value: Json | undefined) => check((m) => field.password(m, "newpassword"), { newpassword: value });
  for (const good of ["123456", "p".repeat(128), "€€", EMOJI.repeat(32), "e\u0301e\u0301", " \u0000\n   "])
    expect(password(good)).toBe(good);
  for (const bad of [
    "",
    "12345",
    "p".repeat(129),
    "éé",
    EMOJI,
    EMOJI.repeat(33),
    `${EMOJI.repeat(32)}a`,
    ...others("string"),
  ])
    expect(password(bad)).toEqual(refused("newpassword"));
});

test("an id is a positive integer that a number holds exactly", () => {
  const id = (value: Json | undefined) => check((m) => field.id(m, "toid"), { toid: value });
  for (const good of [1, 22, 2 ** 53 - 1]) expect(id(good)).toBe(good);
  for (const bad of [0, -1, 1.5, 2 ** 53, Number.POSITIVE_INFINITY, Number.NaN, "1", ...others("number")])
    expect(id(bad)).toEqual(refused("toid"));
});

test("an integer is within its bounds, and may be left out where it has a default", () => {
  const limit = (value: Json | undefined, otherwise?: number) =>
    check((m) => field.integer(m, "limit", 1, 100, otherwise), { limit: value });
  expect([limit(1), limit(100), limit(undefined, 50), limit(null, 50), limit(7, 50)]).toEqual([1, 100, 50, 50, 7]);
  for (const bad of [0, 101, -1, 1.5, "1", ...others("number")]) expect(limit(bad)).toEqual(refused("limit"));
  for (const bad of [0, 101, "", false]) expect(limit(bad, 50)).toEqual(refused("limit"));
});

test("a flag is true or false, and false where it is left out", () => {
  const flag = (value: Json | undefined) => check((m) => field.flag(m, "takeover"), { takeover: value });
  expect([flag(true), flag(false), flag(undefined), flag(null)]).toEqual([true, false, false, false]);
  for (const bad of ["true", ...others("boolean", "undefined", "null")]) expect(flag(bad)).toEqual(refused("takeover"));
});

test("a mid has 1 to 64 characters, and is taken as it is", () => {
  const mid = (value: Json | undefined) => check(field.mid, { mid: value });
  expect([mid(undefined), mid(null)]).toEqual([null, null]);
  for (const good of ["m", "m".repeat(64), EMOJI.repeat(64), "e\u0301", "\u0000"]) expect(mid(good)).toBe(good);
  for (const bad of ["", "m".repeat(65), EMOJI.repeat(65), ...others("string", "undefined", "null")])
    expect(mid(bad)).toEqual(refused("mid"));
});

test("a reqId has at most 64 characters, or is an integer", () => {
  const reqId = (value: Json | undefined) => check(field.reqId, { reqId: value });
  expect([reqId(undefined), reqId(null)]).toEqual([undefined, undefined]);
  for (const good of ["", "r", "r".repeat(64), EMOJI.repeat(64), 0, -1, 1, 2 ** 53 - 1, -(2 ** 53 - 1)])
    expect(reqId(good)).toBe(good);
  for (const bad of ["r".repeat(65), EMOJI.repeat(65), 1.5, 2 ** 53, true, false, [], {}])
    expect(reqId(bad)).toEqual(refused("reqId"));
});

test("a sender that is repeated is the session's own, or error 11", () => {
  const own = (value: Json | undefined) => check((m) => field.ownIds(m, 22), { fromid: value });
  expect([own(22), own(undefined), own(null)]).toEqual([undefined, undefined, undefined]);
  expect(own(23)).toMatchObject({ errno: 11 });
  for (const bad of ["22", 0, -22, 22.5, true]) expect(own(bad)).toEqual(refused("fromid"));
});

describe("a conversation", () => {
  const MAX = String(2 ** 53 - 1);
  const conv = (value: Json | undefined) => check((m) => field.conv(m), { conv: value });

  test("is named by its two users, the lower one first, or by its group", () => {
    expect([field.directConv(2, 1), field.directConv(1, 2), field.directConv(9, 10)]).toEqual([
      "u:1-2",
      "u:1-2",
      "u:9-10",
    ]);
    expect(field.groupConv(3)).toBe("g:3");
    expect(field.parseConv("u:9-10")).toEqual({ kind: "u", lo: 9, hi: 10 });
    expect(field.parseConv("u:7-7")).toEqual({ kind: "u", lo: 7, hi: 7 });
    expect(field.parseConv("g:3")).toEqual({ kind: "g", lo: 3, hi: 0 });
    expect(field.parseConv(`u:${MAX}-${MAX}`)).toEqual({ kind: "u", lo: 2 ** 53 - 1, hi: 2 ** 53 - 1 });
    for (const good of ["u:1-2", "g:3", `g:${MAX}`, field.directConv(5, 4), field.groupConv(1)])
      expect(conv(good)).toBe(good);
  });

  test("has one name only", () => {
    const WRONG = [
      "",
      "u:",
      "u:1",
      "u:1-",
      "u:-1",
      "u:2-1",
      "u:01-2",
      "u:1-02",
      "u:0-1",
      "u:1-2-3",
      "u:1-2 ",
      " u:1-2",
      "u:1-2\n",
    ];
    WRONG.push(
      "g:",
      "g:0",
      "g:01",
      "g:-1",
      "g:1-2",
      "g:1.5",
      "g:1e3",
      "g:0x1",
      "x:1",
      "U:1-2",
      "1-2",
      "u:1-2g:3",
      "g:١",
    );
    // Numbers that are another number once they are read.
    WRONG.push(
      "g:9007199254740992",
      "g:9007199254740993",
      "u:1-9007199254740993",
      `u:${MAX}-9007199254740992`,
      `g:${"9".repeat(17)}`,
    );
    for (const wrong of WRONG) expect([wrong, field.parseConv(wrong)]).toEqual([wrong, null]);
    for (const wrong of [...WRONG, ...others("string")]) expect(conv(wrong)).toEqual(refused("conv"));
  });
});

test("the clock shows local time, the same for a whole second", () => {
  for (const [year, month, day, hour, minute, second] of [
    [2024, 1, 2, 3, 4, 5],
    [1999, 12, 31, 23, 59, 59],
    [2024, 2, 29, 0, 0, 0],
  ] as const) {
    const ts = new Date(year, month - 1, day, hour, minute, second).getTime();
    const two = (n: number) => String(n).padStart(2, "0");
    const expected = `${year}-${two(month)}-${two(day)} ${two(hour)}:${two(minute)}:${two(second)}`;
    expect([field.clock(ts), field.clock(ts + 999), field.clock(ts)]).toEqual([expected, expected, expected]);
    expect(field.clock(ts + 1000)).not.toBe(expected);
  }
});
