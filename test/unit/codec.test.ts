// The codec on streams that are well-formed: the three framings, every cut, the terminator, and what it writes.
import { describe, expect, test } from "bun:test";
import { Decoder, type Framing } from "../../src/net/codec.ts";
import { encode } from "../../src/net/encode.ts";
import type { Fault } from "../../src/net/json.ts";
import { PartialFrame } from "../../src/net/partial-frame.ts";
import type { Message } from "../../src/protocol.ts";
import { byteByByte, bytes, cutAt, decode, decodeEveryWay, frame, objectOf, words } from "./streams.ts";

const BOM = [0xef, 0xbb, 0xbf];

/** Objects whose bytes a scanner could take for something else. */
const OBJECTS = [
  '{"msgId":1000,"name":"123","password":"123456"}',
  '{"msgId":1,"s":"}{][ \\" \\\\"}',
  '{"msgId":2,"s":"\\\\","t":"\\u007d\\ud83d\\ude00\\n\\/"}',
  '{"msgId":3,"é€😀":"é€😀\u{10ffff}\uFFFD\uFEFF\u007f"}',
  '{"msgId":4,"a":[[],{},[{"b":[{}]}]],"n":null,"t":true,"e":-1.5e3}',
  '{\n\t"msgId": 5,\r\n\t"s": " "\n}',
  '{"msgId":6,"":""}',
];
const MESSAGES = OBJECTS.map((text) => JSON.parse(text));

const STREAMS: Record<string, Buffer> = {
  length: bytes(...OBJECTS.map((each) => frame(each))),
  "text ended by LF": bytes(...OBJECTS.map((each) => `${each}\n`)),
  "text ended by CR LF": bytes(...OBJECTS.map((each) => `${each}\r\n`)),
  "text ended by NUL": bytes(...OBJECTS.map((each) => `${each}\0`)),
  "text with nothing between objects": bytes(OBJECTS.join("")),
  "text separated by blanks": bytes(` \t${OBJECTS.join(" \t ")}  `),
  "text separated by all of them": bytes("\n\r\0 \t", OBJECTS.join("\0\n\r\0 \t\n")),
  "text behind a byte-order mark": bytes(BOM, OBJECTS.join("\n")),
  "text behind a byte-order mark and blanks": bytes(BOM, " \r\n", OBJECTS.join("\n")),
};

describe.each(Object.entries(STREAMS))("%s", (_, stream) => {
  test("gives the same messages whole, cut anywhere and byte by byte", () => {
    const results = decodeEveryWay(stream);
    expect(results.map((each) => ("message" in each ? each.message : each.fault))).toEqual(MESSAGES);
  });

  test("gives the same messages in chunks of any size", () => {
    for (let size = 2; size < 40; size++) {
      const offsets = Array.from({ length: Math.ceil(stream.length / size) - 1 }, (_, i) => (i + 1) * size);
      expect(decode(cutAt(stream, offsets), 4096).map((each) => "message" in each && each.message)).toEqual(MESSAGES);
    }
  });
});

test.each<[string, Buffer, Framing]>([
  ["0x00", frame('{"msgId":1}'), "length"],
  ["a bracket", bytes('{"msgId":1}\n'), "lf"],
  ["a blank", bytes(' {"msgId":1}\n'), "lf"],
  ["LF", bytes('\n{"msgId":1}\n'), "lf"],
  ["a byte-order mark", bytes(BOM, '{"msgId":1}\n'), "lf"],
  ["a letter", bytes('GET / HTTP/1.1\r\n{"msgId":1}\n'), "lf"],
  ["0xff", bytes([0xff], '\n{"msgId":1}\n'), "lf"],
])("the first byte %s tells the framing", (_, stream, framing) => {
  const decoder = new Decoder(4096);
  expect(decoder.framing).toBe("unknown");
  decoder.push(stream.subarray(0, 1));
  decoder.next();
  expect(decoder.framing).toBe(framing);
  const results = decodeEveryWay(stream);
  expect(words(results.slice(-1))).toBe("1");
  expect(results.every((each) => each.framing === framing)).toBe(true);
});

test("a character is the same, wherever its bytes are cut", () => {
  for (const character of ["é", "€", "😀", "\u{10ffff}", "\uFFFD"]) {
    const json = JSON.stringify({ msgId: 1, s: `a${character}b` });
    const start = bytes(json.slice(0, json.indexOf(character))).length;
    for (const [header, stream] of [[4, frame(json)] as const, [0, bytes(json, "\n")] as const])
      for (let cut = start; cut <= start + bytes(character).length; cut++)
        expect(decode(cutAt(stream, [header + cut]), 4096)).toMatchObject([{ message: { s: `a${character}b` } }]);
  }
});

/** Everything that the decoder returns before it needs more bytes. */
function drain(decoder: Decoder): (Message | Fault)[] {
  const results: (Message | Fault)[] = [];
  for (let next = decoder.next(); next !== null; next = decoder.next()) results.push(next);
  return results;
}

describe("the terminator", () => {
  const one = '{"msgId":1}';

  test("of the first object is waited for where no byte follows, and decides how it is answered", () => {
    for (const [terminator, framing] of [
      ["\0", "nul"],
      ["\n", "lf"],
      [" ", "lf"],
      ["{", "lf"],
    ] as const) {
      const decoder = new Decoder(4096);
      decoder.push(bytes(one));
      expect([decoder.next(), decoder.holding]).toEqual([null, true]);
      expect([decoder.next(), decoder.holding]).toEqual([null, true]);
      decoder.push(bytes(terminator));
      expect(decoder.next()).toEqual({ msgId: 1 });
      expect([decoder.framing, decoder.holding, decoder.next()]).toEqual([framing, false, null]);
    }
  });

  test("is waited for until the reader gives up, and for no later object", () => {
    const decoder = new Decoder(4096);
    decoder.push(bytes(one));
    expect(decoder.next()).toBeNull();
    expect(decoder.releaseHeld()).toEqual({ msgId: 1 });
    expect([decoder.holding, decoder.framing, decoder.next(), decoder.releaseHeld()]).toEqual([
      false,
      "lf",
      null,
      null,
    ]);
    decoder.push(bytes('\0{"msgId":2}'));
    expect(decoder.next()).toEqual({ msgId: 2 });
    expect([decoder.holding, decoder.framing]).toEqual([false, "nul"]);
  });

  test("of a first object without msgId, and of one that is no JSON, is waited for too", () => {
    for (const first of ["{}", '{"msgId":}']) {
      const decoder = new Decoder(4096);
      decoder.push(bytes(first));
      expect([decoder.next(), decoder.holding]).toEqual([null, true]);
      decoder.push(bytes('\0{"msgId":2}'));
      expect(decoder.next()).toMatchObject({ errno: 18 });
      expect(decoder.framing).toBe("nul");
      expect(drain(decoder)).toEqual([{ msgId: 2 }]);
    }
  });

  test("is not waited for in the length-prefixed framing, nor behind malformed text", () => {
    for (const [stream, expected] of [
      [frame(one), [{ msgId: 1 }]],
      [bytes("x\n", one), [{ errno: 18 }, { msgId: 1 }]],
    ] as [Buffer, object[]][]) {
      const decoder = new Decoder(4096);
      decoder.push(stream);
      expect(drain(decoder)).toMatchObject(expected);
      expect(decoder.holding).toBe(false);
    }
  });

  test("NUL of the first object is met at every cut", () => {
    const stream = bytes(`${one}\0{"msgId":2}\0`);
    for (let cut = 1; cut < stream.length; cut++)
      expect(decode(cutAt(stream, [cut]), 4096)[0]).toEqual({ message: { msgId: 1 }, framing: "nul" });
    expect(decode(byteByByte(stream), 4096)[0]?.framing).toBe("nul");
  });

  test("used last decides, also that of text that was discarded", () => {
    const stream = bytes(`${one}\0${one}\n${one}\0x y\n${one}\n{"a":\0${one}\r\n${one}\0${one} ${one}`);
    expect(decode([stream], 4096).map((each) => each.framing)).toEqual([
      "nul",
      "lf",
      "nul",
      "lf",
      "lf",
      "nul",
      "nul",
      "nul",
      "nul",
      "nul",
    ]);
    expect(words(decode([stream], 4096))).toBe("1 1 1 !18 1 !18 1 1 1 1");
  });

  test("that ends discarded text is met at every cut", () => {
    const stream = bytes(`${one}\nx y\0${one}`);
    for (let cut = 1; cut < stream.length; cut++)
      expect(decode(cutAt(stream, [cut]), 4096)[2]).toEqual({ message: { msgId: 1 }, framing: "nul" });
  });

  test("is no longer waited for when the input has ended", () => {
    const decoder = new Decoder(4096);
    decoder.push(bytes(one));
    decoder.next();
    decoder.end();
    expect([decoder.holding, decoder.releaseHeld(), decoder.next(), decoder.bufferedBytes]).toEqual([
      false,
      null,
      null,
      0,
    ]);
    decoder.push(bytes(`\n${one}\n`));
    expect([decoder.next(), decoder.bufferedBytes]).toEqual([null, 0]);
  });
});

test("what its reader has not taken stays bytes, in order with what comes later", () => {
  const decoder = new Decoder(64);
  decoder.push(bytes('{"msgId":1}\n{"msgId":2}\n{"ms'));
  expect(decoder.next()).toEqual({ msgId: 1 });
  decoder.push(bytes('gId":3}\n'));
  decoder.push(bytes('{"msgId":4}\n'));
  expect(decoder.bufferedBytes).toBe('\n{"msgId":2}\n{"msgId":3}\n{"msgId":4}\n'.length);
  expect(drain(decoder)).toEqual([{ msgId: 2 }, { msgId: 3 }, { msgId: 4 }]);
  expect(decoder.bufferedBytes).toBe(0);
});

test("an object 100,000 brackets deep is a message, whatever else is in it", () => {
  const deep = (open: string, close: string) => open.repeat(100_000) + close.repeat(100_000);
  for (const value of [deep("[", "]"), deep('{"a":', "}").replace("}", "1}"), `${deep("[", "]")},"s":"\\ud83d\\ude00"`])
    for (const stream of [frame(`{"msgId":1,"a":${value}}`), bytes(`{"msgId":1,"a":${value}}\n`)]) {
      const results = decode(cutAt(stream, [150_000]), 1 << 21);
      expect([results.length, "message" in results[0]! && results[0].message.msgId]).toEqual([1, 1]);
    }
  for (const [broken, expected] of [
    [deep("[", "}"), "!18"],
    ["]".repeat(100_000), "!18"],
    ["[".repeat(100_000), ""],
  ]) {
    expect(words(decode([bytes(`{"msgId":1,"a":${broken}\0`)], 1 << 21))).toBe(expected || "!18");
    expect(words(decode([bytes(`{"msgId":1,"a":${broken}`)], 1 << 21))).toBe(expected!);
  }
});

describe("encode", () => {
  const room = () => Buffer.alloc(100, 0xee);

  test.each<[Framing, Buffer]>([
    ["length", frame('{"s":"é€😀"}')],
    ["lf", bytes('{"s":"é€😀"}\n')],
    ["nul", bytes('{"s":"é€😀"}\0')],
    ["unknown", bytes('{"s":"é€😀"}\n')],
  ])("%s writes the frame there and nothing else", (framing, expected) => {
    for (const at of [0, 7]) {
      const out = room();
      const end = encode('{"s":"é€😀"}', framing, out, at);
      expect(end).toBe(at + expected.length);
      expect<Buffer>(out.subarray(at, end)).toEqual(expected);
      expect(Buffer.concat([out.subarray(0, at), out.subarray(end)]).every((byte) => byte === 0xee)).toBe(true);
    }
  });

  test("needs no more room than 3 bytes a character and 4, and writes valid UTF-8 only", () => {
    const text = JSON.stringify({ msgId: 1, s: "€".repeat(500) });
    const out = Buffer.alloc(3 * text.length + 4);
    expect(decode([out.subarray(0, encode(text, "length", out, 0))], 4096)).toMatchObject([{ message: { msgId: 1 } }]);
    const lone = room();
    expect<Buffer>(lone.subarray(0, encode("\ud83d", "lf", lone, 0))).toEqual(bytes("\uFFFD\n"));
  });

  test("what it writes is decoded to the same", () => {
    for (const framing of ["length", "lf", "nul"] as const) {
      const out = Buffer.alloc(16_384);
      let end = 0;
      for (const object of OBJECTS) end = encode(object, framing, out, end);
      const results = decodeEveryWay(out.subarray(0, end));
      expect(results.map((each) => "message" in each && each.message)).toEqual(MESSAGES);
      expect(results.every((each) => each.framing === framing)).toBe(true);
    }
  });
});

test("a partial frame takes little more memory than its bytes, however they came", () => {
  const chunk = bytes(objectOf(3000));
  const tiny = new PartialFrame(3000);
  for (let i = 0; i < 3000; i++) tiny.add(chunk, i, i + 1);
  const gathered = tiny.take();
  expect(gathered).toEqual(chunk);
  expect(gathered.buffer.byteLength).toBeLessThanOrEqual(3000);
  expect(tiny.length).toBe(0);
  tiny.add(bytes("the next one"), 0, 12);
  expect(gathered).toEqual(chunk);
  const short = new PartialFrame(3000);
  short.add(chunk, 2990, 3000);
  expect(short.take().buffer.byteLength).toBeLessThanOrEqual(64);
});
