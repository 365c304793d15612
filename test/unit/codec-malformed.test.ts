// The codec on streams that are not: what is discarded, what is one error, and the limits.
import { describe, expect, test } from "bun:test";
import { Decoder } from "../../src/net/codec.ts";
import { bytes, decode, decodeEveryWay, frame, objectOf, words } from "./streams.ts";

const BOM = [0xef, 0xbb, 0xbf];
const HEALTHY = '{"msgId":9}\n';

/** The one result of this text, or of this frame, with a healthy message behind it. */
function onlyFault(json: string | Uint8Array) {
  for (const stream of [bytes(json, "\n", HEALTHY), bytes(frame(json), frame(HEALTHY))]) {
    const results = decodeEveryWay(stream);
    expect([bytes(json).toString("latin1"), words(results)]).toEqual([bytes(json).toString("latin1"), "!18 9"]);
    const [first] = results;
    if (first !== undefined && "fault" in first) expect(first.fault.errmsg).toMatch(/^(not a message|msgId): ./);
  }
}

describe("malformed text is one error, discarded up to and including the next LF or NUL", () => {
  test.each([
    ["words", 'hello {"msgId":1} hello\n', "!18"],
    ["words ended by NUL", 'hello {"msgId":1} hello\0', "!18"],
    ["an HTTP request, line by line", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "!18 !18"],
    ["a list", '[{"msgId":1}]\n', "!18"],
    ["a string, a number, null", '"s"\n42\nnull\n', "!18 !18 !18"],
    ["a comma between objects", '{"msgId":1},{"msgId":2}\n', "1 !18"],
    ["a bracket too many", '{"msgId":1}} {"msgId":2}\n', "1 !18"],
    ["a list closed as an object", '{"msgId":1,"a":[}]} {"msgId":2}\n', "!18"],
    ["an object closed as a list", '{"msgId":1] {"msgId":2}\n', "!18"],
    ["a bracket of another pair", '{"a":{"b":[1}}\n', "!18"],
    ["balanced, but no JSON", '{"msgId":1,} {"msgId":2}\n', "!18"],
    ["single quotes", "{'msgId':1} x\0", "!18"],
    ["no quotes", '{msgId:1} {"msgId":2}\0', "!18"],
    ["over several lines, up to the end of the last", '{"msgId":1,\n"a":b\n} {"msgId":2}\n', "!18"],
    ["a NUL inside an object", '{"msgId":1,\0', "!18"],
    ["a NUL inside a list", '{"msgId":[1,\0', "!18"],
    ["an LF inside a string", '{"msgId":1,"s":"a\n', "!18"],
    ["a NUL inside a string", '{"msgId":1,"s":"a\0', "!18"],
    ["an LF behind a backslash", '{"msgId":1,"s":"a\\\n', "!18"],
    ["an end of its own in what follows", '{"msgId":1,"s":"a\nb"}\n', "!18 !18"],
  ])("%s", (_, text, expected) => {
    expect(words(decodeEveryWay(bytes(text, HEALTHY)))).toBe(`${expected} 9`);
    expect(words(decodeEveryWay(bytes('{"msgId":8}\n', text, HEALTHY)))).toBe(`8 ${expected} 9`);
  });

  test.each(Array.from({ length: 0x20 }, (_, byte) => byte))("the byte %d inside a string", (byte) => {
    const ends = byte === 0 || byte === 0x0a;
    for (const before of ["", "\\"]) {
      const json = bytes(`{"msgId":1,"s":"a${before}`, [byte], 'b"} {"msgId":2}\n');
      // Malformed at that byte: what is behind it goes too, and counts for itself where the byte itself ends the text.
      expect(words(decodeEveryWay(bytes(json, HEALTHY)))).toBe(ends ? "!18 !18 9" : "!18 9");
    }
    expect(words(decodeEveryWay(bytes(frame(bytes('{"msgId":1,"s":"a', [byte], '"}')), frame(HEALTHY))))).toBe("!18 9");
    // Told at the byte, not at the end of the object.
    expect(words(decode([bytes('{"msgId":1,"s":"a', [byte])], 4096))).toBe("!18");
  });
});

test("invalid UTF-8 is malformed, in a value and in a key; a real U+FFFD is not", () => {
  const INVALID = [
    [0x80],
    [0xbf],
    [0xc0, 0x80],
    [0xc1, 0xbf],
    [0xc3],
    [0xe0, 0x80, 0x80],
    [0xe2, 0x82],
    [0xed, 0xa0, 0x80],
    [0xed, 0xb0, 0x80],
    [0xf0, 0x80, 0x80, 0x80],
    [0xf0, 0x9f, 0x98],
    [0xf4, 0x90, 0x80, 0x80],
    [0xf8, 0x88, 0x80, 0x80, 0x80],
    [0xfe],
    [0xff],
    [0xef, 0xbf, 0xbd, 0xff],
  ];
  for (const invalid of INVALID) {
    onlyFault(bytes('{"msgId":1,"s":"a', invalid, 'b"}'));
    onlyFault(bytes('{"msgId":1,"', invalid, '":1}'));
    onlyFault(bytes('{"msgId":1,', invalid, '"s":1}'));
  }
  expect(decodeEveryWay(bytes('{"msgId":1,"s":"\uFFFD"}\n'))).toMatchObject([{ message: { s: "\uFFFD" } }]);
});

test("half of a surrogate pair is an error, wherever it stands; a pair is a character", () => {
  const LONE = [
    "\\ud83d",
    "\\uDE00",
    "\\ud800",
    "\\uDC00",
    "\\ude00\\ud83d",
    "\\ud83dx\\ude00",
    "\\ud83d\\n\\ude00",
    "\\ud83d\\ud83d\\ude00",
  ];
  LONE.push("\\ud83d\\ude00\\ude00", "\\uDBFF\\uE000", "\\ud83d\\\\ude00", "😀\\ude00", "\\ud83d\\u0041");
  for (const lone of LONE)
    for (const json of [
      `{"msgId":1,"s":"${lone}"}`,
      `{"msgId":1,"a":[{"s":"x${lone}y"}]}`,
      `{"msgId":1,"${lone}":1}`,
      `{"msgId":1,"s":"${lone}","s":"replaced"}`,
    ])
      onlyFault(json);
  for (const [escaped, character] of [
    ["\\ud83d\\ude00", "😀"],
    ["\\ud800\\udc00", "\u{10000}"],
    ["\\uD83D\\uDE00\\uDBFF\\uDFFF", "😀\u{10ffff}"],
    ["\\\\ud83d", "\\ud83d"],
    ["\\\\\\ud83d\\ude00", "\\😀"],
    ["\\ud7ff\\ue000", "\ud7ff\ue000"],
  ])
    expect(decodeEveryWay(bytes(`{"msgId":1,"s":"${escaped}"}\n`))).toMatchObject([{ message: { s: character } }]);
  // Of an object that is JSON but for this, only the object goes.
  expect(words(decodeEveryWay(bytes('{"msgId":1,"s":"\\ud83d"}{"msgId":2}\n')))).toBe("!18 2");
});

test("a byte-order mark is skipped where it leads, and nowhere else", () => {
  expect(words(decodeEveryWay(bytes(BOM, '{"msgId":1}\n', HEALTHY)))).toBe("1 9");
  expect(words(decodeEveryWay(bytes(BOM, BOM, '{"msgId":1}\n', HEALTHY)))).toBe("!18 9");
  expect(words(decodeEveryWay(bytes('{"msgId":1}\n', BOM, '{"msgId":2}\n', HEALTHY)))).toBe("1 !18 9");
  expect(words(decodeEveryWay(bytes("x\n", BOM, '{"msgId":2}\n', HEALTHY)))).toBe("!18 !18 9");
  for (const part of [[0xef], [0xef, 0xbb], [0xef, 0xbb, 0xbb], [0xef, 0xbf], [0xbb, 0xbf], [0xbf]])
    for (const behind of ["", "\n", " "])
      expect(words(decodeEveryWay(bytes(part, behind, '{"msgId":1}\n', HEALTHY)))).toBe(
        behind === "\n" ? "!18 1 9" : "!18 9",
      );
  expect(words(decodeEveryWay(frame(bytes(BOM, BOM, '{"msgId":1,"s":"\uFFFD"}'))))).toBe("!18");
  expect(words(decodeEveryWay(bytes(frame(bytes(BOM, '{"msgId":1}')), frame(bytes(BOM, HEALTHY)))))).toBe("1 9");
});

test("a frame that is no object is an error, and the next one a message", () => {
  expect(decodeEveryWay(bytes(frame(""), frame(HEALTHY)))).toMatchObject([
    { fault: { errmsg: expect.stringMatching(/^empty frame/) } },
    {},
  ]);
  for (const json of [
    "[]",
    '[{"msgId":1}]',
    '"s"',
    "42",
    "null",
    "true",
    "",
    " ",
    "{",
    '{"msgId":1}x',
    '{"msgId":1}\0',
  ])
    expect([json, words(decodeEveryWay(bytes(frame(json), frame(HEALTHY))))]).toEqual([json, "!18 9"]);
  for (const json of ["[]", "null", "42"])
    expect(decodeEveryWay(frame(json))).toMatchObject([{ fault: { errmsg: expect.stringContaining("object") } }]);
  expect(words(decodeEveryWay(bytes(frame(' {"msgId":1}\r\n'), frame(HEALTHY))))).toBe("1 9");
});

describe("msgId", () => {
  const reqIdOf = (json: string) => {
    const [result] = decodeEveryWay(bytes(`${json}\n`));
    return result !== undefined && "fault" in result ? [result.fault.errno, result.fault.reqId] : result;
  };

  test.each([
    "{}",
    '{"msgid":1}',
    ...'null true false "1000" 1.5 1e999 9007199254740993 [1] {}'.split(" ").map((value) => `{"msgId":${value}}`),
    '{"__proto__":{"msgId":1}}',
    '{"a":{"msgId":1}}',
  ])("%s has none", onlyFault);

  test("may be written as any integer", () => {
    for (const [json, msgId] of [
      ["1000.0", "1000"],
      ["1e3", "1000"],
      ["-1", "-1"],
      ["0", "0"],
    ])
      expect(words(decodeEveryWay(bytes(`{"msgId":${json}}\n`)))).toBe(msgId!);
  });

  test("missing is answered with the request's reqId, where that is one", () => {
    expect(reqIdOf('{"reqId":"a"}')).toEqual([18, "a"]);
    expect(reqIdOf('{"msgId":"1000","reqId":-7}')).toEqual([18, -7]);
    expect(reqIdOf(`{"reqId":"${"😀".repeat(64)}"}`)).toEqual([18, "😀".repeat(64)]);
    for (const reqId of [`"${"a".repeat(65)}"`, "1.5", "true", "null", "[]", "{}", "9007199254740993"])
      expect(reqIdOf(`{"reqId":${reqId}}`)).toEqual([18, undefined]);
  });
});

describe("the limit", () => {
  const MAX = 200;
  const after = (stream: Buffer) => words(decodeEveryWay(stream, MAX));

  test("lets a frame of exactly that through and ends at one byte more, as soon as the header tells", () => {
    expect(after(bytes(frame(objectOf(MAX)), frame(objectOf(MAX, 2))))).toBe("1 2");
    expect(after(bytes(frame(objectOf(MAX)), frame(objectOf(MAX + 1)), frame(HEALTHY)))).toBe("1 !15");
    expect(after(frame(objectOf(MAX + 1)).subarray(0, 4))).toBe("!15");
    expect(after(frame(objectOf(MAX + 1)).subarray(0, 3))).toBe("");
    expect(after(bytes(frame(HEALTHY), [1, 0, 0, 0]))).toBe("9 !15");
    expect(after(bytes(frame(HEALTHY), [255, 255, 255, 255]))).toBe("9 !15");
    expect(after(bytes(frame(HEALTHY), HEALTHY))).toBe("9 !15");
  });

  test("lets an object of exactly that through and ends at one byte more", () => {
    expect(after(bytes(objectOf(MAX), objectOf(MAX, 2), "\n", HEALTHY))).toBe("1 2 9");
    expect(after(bytes(objectOf(MAX + 1), "\n", HEALTHY))).toBe("!15");
    expect(after(bytes(HEALTHY, objectOf(MAX + 1), "\n", HEALTHY))).toBe("9 !15");
  });

  test("ends an unfinished object at one byte more, without its end", () => {
    for (const start of ['{"msgId":1,"s":"', '{"msgId":1,"a":[', '{"msgId":1,"s":"\\"']) {
      expect(after(bytes(start.padEnd(MAX, " ")))).toBe("");
      expect(after(bytes(start.padEnd(MAX + 1, " ")))).toBe("!15");
      expect(after(bytes(start.padEnd(3 * MAX, " "), "\0\n", HEALTHY))).toBe("!15");
    }
  });

  test("holds for text that is discarded, from the beginning of its object on", () => {
    expect(after(bytes("x".repeat(MAX), "\n", HEALTHY))).toBe("!18 9");
    expect(after(bytes("x".repeat(MAX + 1), "\n", HEALTHY))).toBe("!18 !15");
    expect(after(bytes("x".repeat(MAX + 1)))).toBe("!18 !15");
    const malformed = '{"msgId":1,"s":"\t';
    expect(after(bytes(malformed.padEnd(MAX, "x"), "\0", HEALTHY))).toBe("!18 9");
    expect(after(bytes(malformed.padEnd(MAX + 1, "x"), "\0", HEALTHY))).toBe("!18 !15");
    // Malformed at the last byte that may be, at the terminator behind it, and too late.
    const unfinished = (size: number) => '{"msgId":1,"s":"'.padEnd(size, "x");
    expect(after(bytes(unfinished(MAX - 1), "\t\n", HEALTHY))).toBe("!18 9");
    expect(after(bytes(unfinished(MAX), "\n", HEALTHY))).toBe("!18 9");
    expect(after(bytes(unfinished(MAX + 1), "\n", HEALTHY))).toBe("!15");
    // No JSON within the limit; what is discarded behind it counts anew.
    const noJson = "{".padEnd(MAX - 1, "x").concat("}");
    expect(after(bytes(noJson, "y".repeat(MAX), "\n", HEALTHY))).toBe("!18 9");
    expect(after(bytes(noJson, "y".repeat(MAX + 1), "\n", HEALTHY))).toBe("!18 !15");
  });

  test("does not hold for what separates objects, nor for all the lines together", () => {
    const blanks = " \r\n\0\t".repeat(MAX);
    expect(after(bytes(blanks, '{"msgId":1}', blanks, HEALTHY))).toBe("1 9");
    expect(after(bytes(" ".repeat(MAX), "x".repeat(MAX), "\n", HEALTHY))).toBe("!18 9");
    expect(after(bytes("x y z\n".repeat(MAX), HEALTHY))).toBe(`${"!18 ".repeat(MAX)}9`);
  });

  test("over it, nothing is read or kept any more", () => {
    for (const stream of [frame(objectOf(MAX + 1)), bytes(objectOf(MAX + 1), "\n"), bytes("x".repeat(MAX + 1))]) {
      const decoder = new Decoder(MAX);
      decoder.push(stream);
      let last = decoder.next();
      while (last !== null && "errno" in last && last.errno === 18) last = decoder.next();
      expect(last).toMatchObject({ errno: 15, errmsg: expect.stringContaining(String(MAX)) });
      expect([decoder.next(), decoder.bufferedBytes]).toEqual([null, 0]);
      for (let i = 0; i < 3; i++) decoder.push(bytes("\n", HEALTHY));
      expect([decoder.next(), decoder.bufferedBytes, decoder.holding]).toEqual([null, 0, false]);
    }
  });
});
