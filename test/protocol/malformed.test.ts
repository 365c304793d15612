// What is no message: one error each, then the next message on the same connection; the tenth ends it, and so does
// what is too large. Nothing a peer sends ends the process.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type RunningServer, startServer, temporaryFolder } from "../harness.ts";
import { Wire } from "../wire.ts";

let server: RunningServer;

beforeAll(async () => {
  server = await startServer(`${temporaryFolder()}/chat.db`);
});

afterAll(async () => {
  expect(server.log()).not.toMatch(/bug|error/i);
  await server.stop();
});

const FAULT = { msgId: 1010, ack: 0, errno: 18 };
const frame = (bytes: string | Uint8Array): Buffer => {
  const body = Buffer.from(bytes as string);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  return Buffer.concat([head, body]);
};
const bytes = (...parts: (string | number[])[]): Buffer =>
  Buffer.concat(parts.map((part) => Buffer.from(part as string)));

/** Each is one error in every framing. */
const NO_MESSAGES: [string, Buffer][] = [
  ["malformed JSON", bytes('{"msgId" 1012}')],
  ["a trailing comma", bytes('{"msgId":1012,}')],
  ["a number with a leading zero", bytes('{"msgId":01012}')],
  ["single quotes", bytes("{'msgId':1012}")],
  ["an unknown escape", bytes('{"msgId":1012,"x":"\\q"}')],
  ["a control character in a string", bytes('{"msgId":1012,"x":"a\u0001b"}')],
  ["a tab in a string", bytes('{"msgId":1012,"x":"a\tb"}')],
  ["mismatched brackets", bytes('{"msgId":1012,"x":[}]}')],
  ["a list", bytes("[1,2]")],
  ["a number", bytes("1012")],
  ["a text", bytes('"msgId"')],
  ["null", bytes("null")],
  ["words", bytes("GET / HTTP/1.1")],
  ["no msgId", bytes('{"id":1}')],
  ["an empty object", bytes("{}")],
  ["a msgId that is text", bytes('{"msgId":"1012"}')],
  ["a msgId that is no integer", bytes('{"msgId":1012.5}')],
  ["a msgId that is null", bytes('{"msgId":null}')],
  ["a msgId beyond all integers", bytes('{"msgId":1e99}')],
  ["a lone high surrogate", bytes('{"msgId":1012,"x":"\\ud800"}')],
  ["a lone low surrogate", bytes('{"msgId":1012,"x":"a\\udc00b"}')],
  ["surrogates the wrong way round", bytes('{"msgId":1012,"x":"\\udc00\\ud800"}')],
  ["a high surrogate before a letter", bytes('{"msgId":1012,"x":"\\ud83dx\\ude00"}')],
  ["a high surrogate before another escape", bytes('{"msgId":1012,"x":"\\ud83d\\n"}')],
  ["a lone surrogate in a key", bytes('{"msgId":1012,"\\uDBFF":1}')],
  ["a byte that is no UTF-8", bytes('{"msgId":1012,"x":"', [0xff], '"}')],
  ["overlong UTF-8", bytes('{"msgId":1012,"x":"', [0xc0, 0xaf], '"}')],
  ["UTF-8 cut short", bytes('{"msgId":1012,"x":"', [0xe2, 0x82], '"}')],
  ["a surrogate in UTF-8", bytes('{"msgId":1012,"x":"', [0xed, 0xa0, 0x80], '"}')],
  ["20,000 brackets, unbalanced", bytes(`{"x":${"[".repeat(20_000)}}`)],
];

/** None of these is one, though it looks like one. */
const MESSAGES: [string, string][] = [
  ["a surrogate pair", '{"msgId":1012,"x":"\\ud83d\\ude00"}'],
  ["two pairs, and letters that look like surrogates", '{"msgId":1012,"x":"\\uD83D\\uDE00\\ud83d\\ude00\\\\ud800"}'],
  ["U+FFFD itself", '{"msgId":1012,"x":"\uFFFD"}'],
  ["20,000 brackets", `{"msgId":1012,"x":${"[".repeat(20_000)}${"]".repeat(20_000)}}`],
  [
    "20,000 brackets and a surrogate pair",
    `{"msgId":1012,"x":${"[".repeat(20_000)}${"]".repeat(20_000)},"y":"\\ud83d\\ude00"}`,
  ],
  ["an integer in another spelling", '{"msgId":1.012e3}'],
  ["a key that means something to JavaScript", '{"msgId":1012,"__proto__":{"msgId":1},"constructor":1}'],
  ["the same key twice", '{"msgId":1,"msgId":1012}'],
];

/** [framing, how a message or what is none is sent in it] */
const FRAMINGS: [string, (body: string | Uint8Array) => Buffer][] = [
  ["length", frame],
  ["LF", (body) => bytes([...Buffer.from(body as string)], "\n")],
  ["CR LF", (body) => bytes([...Buffer.from(body as string)], "\r\n")],
  ["NUL", (body) => bytes([...Buffer.from(body as string)], "\0")],
];

async function healthy(wire: Wire, framing: (body: string) => Buffer): Promise<void> {
  wire.raw(framing('{"msgId":1012,"reqId":"healthy"}'));
  expect(await wire.next()).toMatchObject({ reqId: "healthy", errno: 0 });
}

describe.each(FRAMINGS)("%s framing", (name, framing) => {
  test.each(NO_MESSAGES)("%s is one error, and the next message is answered", async (_, body) => {
    const wire = await Wire.connect(server.port, name === "length" ? "length" : "lf");
    for (let i = 0; i < 3; i++) {
      wire.raw(framing(body));
      const answer = await wire.next();
      expect(answer).toMatchObject(FAULT);
      expect((answer.errmsg as string).length).toBeGreaterThan(5);
      await healthy(wire, framing);
    }
    // In one piece with what follows.
    wire.raw(Buffer.concat([framing(body), framing('{"msgId":1012,"reqId":"next"}')]));
    expect(await wire.next()).toMatchObject(FAULT);
    expect(await wire.next()).toMatchObject({ reqId: "next", errno: 0 });
    if (name === "NUL") expect(wire.text).toMatch(/^([^\n\0]*\0)+$/);
    wire.close();
  });

  test.each(MESSAGES)("%s is none", async (_, body) => {
    const wire = await Wire.connect(server.port, name === "length" ? "length" : "lf");
    wire.raw(framing(body));
    expect(await wire.next()).toMatchObject({ msgId: 1010, ack: 1012, errno: 0 });
    await healthy(wire, framing);
    wire.close();
  });

  test("the tenth error ends the connection, when what was asked before is answered", async () => {
    const wire = await Wire.connect(server.port, name === "length" ? "length" : "lf");
    for (let i = 0; i < 9; i++) {
      wire.raw(framing("{}"));
      expect(await wire.next()).toMatchObject(FAULT);
    }
    await healthy(wire, framing);
    wire.raw(
      Buffer.concat([
        framing('{"msgId":1000,"name":"x","password":"short"}'),
        framing('{"msgId":1012,"reqId":"before"}'),
        framing("{}"),
        framing('{"msgId":1012,"reqId":"behind"}'),
      ]),
    );
    await wire.whenEnded();
    expect(wire.rest()).toMatchObject([{ msgId: 1001, errno: 14 }, { reqId: "before", errno: 0 }, FAULT]);
  });

  test("a fault echoes the reqId of an object without msgId", async () => {
    const wire = await Wire.connect(server.port, name === "length" ? "length" : "lf");
    wire.raw(framing('{"reqId":"r"}'));
    expect(await wire.next()).toMatchObject({ ...FAULT, reqId: "r" });
    wire.close();
  });
});

describe("text that is malformed is discarded up to the next LF or NUL", () => {
  const cases: [string, string, number[]][] = [
    ["objects behind it in its line", '}{"msgId":1012}{"msgId":1012}\n{"msgId":1012}\n', [18, 0]],
    ["malformed JSON and an object behind it", '{"a" 1}{"msgId":1012}\n{"msgId":1012}\n', [18, 0]],
    ["a line end inside a string", '{"msgId":1012,"x":"a\nb"}\n{"msgId":1012}\n', [18, 18, 0]],
    ["a NUL inside an object", '{"msgId":1012,\0{"msgId":1012}\0', [18, 0]],
    ["an object without msgId takes nothing with it", '{}{"msgId":1012}\n', [18, 0]],
    ["two lines of nonsense", 'x\ny\n{"msgId":1012}\n', [18, 18, 0]],
    ["a byte-order mark in the middle", '{"msgId":1012}\uFEFF{"msgId":1012}\n{"msgId":1012}\n', [0, 18, 0]],
  ];
  test.each(cases)("%s", async (_, text, errnos) => {
    for (const whole of [true, false]) {
      const wire = await Wire.connect(server.port, "lf");
      if (whole) wire.raw(text);
      else for (const byte of Buffer.from(text)) wire.raw(Buffer.from([byte]));
      for (const errno of errnos) expect(await wire.next()).toMatchObject({ errno });
      await wire.settle();
      wire.close();
    }
  });
});

describe("too large: error 15, then the end", () => {
  const heartbeat = '{"msgId":1012,"reqId":"before"}';
  const cases: [string, Buffer][] = [
    ["a frame, by its length alone", Buffer.concat([frame(heartbeat), Buffer.from([0, 1, 0, 1])])],
    ["the largest frame there can be", Buffer.concat([frame(heartbeat), Buffer.from([255, 255, 255, 255, 1])])],
    ["an object without end", bytes(`${heartbeat}\n{"msgId":1012,"x":"${"x".repeat(70_000)}`)],
    ["an object with its end", bytes(`${heartbeat}\n{"msgId":1012,"x":"${"x".repeat(70_000)}"}\n`)],
    ["malformed text without end", bytes(`${heartbeat}\n{]${"x".repeat(70_000)}`)],
  ];
  test.each(cases)("%s", async (name, sent) => {
    const wire = await Wire.connect(server.port, sent[0] === 0 ? "length" : "lf");
    wire.raw(sent);
    expect(await wire.next()).toMatchObject({ reqId: "before", errno: 0 });
    if (name.startsWith("malformed")) expect(await wire.next()).toMatchObject(FAULT);
    expect(await wire.next()).toMatchObject({
      msgId: 1010,
      ack: 0,
      errno: 15,
      errmsg: expect.stringContaining("65536"),
    });
    await wire.whenEnded();
  });

  test("blanks between objects are not", async () => {
    const wire = await Wire.connect(server.port, "lf");
    wire.raw(`${" \r\n".repeat(100_000)}{"msgId":1012}\n`);
    expect(await wire.next()).toMatchObject({ errno: 0 });
    wire.close();
  });
});

test("2,000 mutations of good streams leave the server well", async () => {
  let seed = 4711;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const object = '{"msgId":1004,"toid":1,"msg":"é\\n","mid":"a"}';
  const streams = [frame(object), bytes(`${object}\n`), bytes(`${object}\0`)].map((one) => Buffer.concat([one, one]));
  const mutate = () => {
    const stream = Buffer.from(streams[random(3)]!);
    for (let i = random(6); i >= 0; i--) stream[random(stream.length)] = random(256);
    return stream.subarray(0, random(4) === 0 ? random(stream.length) : undefined);
  };
  for (let round = 0; round < 40; round++) {
    const wires = await Promise.all(Array.from({ length: 50 }, () => Wire.connect(server.port, "lf")));
    for (const wire of wires) {
      wire.raw(mutate());
      wire.halfClose();
    }
    await Promise.all(wires.map((wire) => wire.whenEnded()));
  }
  const wire = await Wire.connect(server.port);
  await wire.settle();
  wire.close();
});
