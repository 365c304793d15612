// Frames that are parsed at once give what they give one by one, whatever is in them.
import { expect, test } from "bun:test";
import { Decoder } from "../../src/net/codec.ts";
import { parseTogether } from "../../src/net/json.ts";
import { byteByByte, bytes, decode, frame } from "./streams.ts";

const together = (...bodies: string[]) => {
  const stream = bytes(...bodies.map((body) => frame(body)));
  const before = Buffer.from(stream);
  const ends: number[] = [];
  for (const body of bodies) ends.push((ends.at(-1) ?? 0) + frame(body).length);
  const messages = parseTogether(stream, 0, ends);
  expect(stream.equals(before)).toBe(true);
  return messages;
};

const PLAIN = ['{"msgId":1,"s":"é€😀}{,\\n\\""}', '{ "msgId" : 2 , "o":{"p":{}} }', '{"msgId":3,"msgId":4}'];

test("what is plain is parsed at once", () => {
  expect<unknown>(together(...PLAIN)).toEqual(PLAIN.map((body) => JSON.parse(body)));
});

/** Each is valid JSON where it is put together with commas, and none of them is a message for each frame. */
const TRICKS: Record<string, string[]> = {
  "a list that reaches over a frame's end": ['{"msgId":1},{"a":[{"msgId":2}', '{"msgId":3}]}'],
  "two objects in a frame, and a list that swallows another": ['{"msgId":1},{"msgId":2,"a":[{}', '{"b":1}]}'],
  "two objects in a frame": ['{"msgId":1},{"msgId":2}', '{"msgId":3}'],
  "a string that reaches over a frame's end": ['{"msgId":1,"s":"{}', '{","t":"}"}'],
  "two objects in a frame, and a string that reaches over its end": ['{"msgId":1},{"msgId":2,"s":"}', '{"}'],
  "an object that reaches over a frame's end": ['{"msgId":1,"o":{}', '{"msgId":2}}'],
  "half an object each": ['{"msgId":1,"o":{"p":1}', '{"q":{}}}'],
  "a list as the value of a frame": ['{"msgId":1}', '{"msgId":2},[{}]', '{"msgId":3}'],
  "a frame that is no object": ['{"msgId":1}', "[{}]", '{"msgId":3}'],
  "no msgId": ['{"msgId":1}', '{"id":2}'],
  "a msgId that is no integer": ['{"msgId":1}', '{"msgId":"2"}', '{"msgId":1.5}'],
  "no JSON": ['{"msgId":1}', '{"msgId":2,}'],
  "a bracket in a string": ['{"msgId":1,"s":"["}', '{"msgId":2}'],
  "an escape": ['{"msgId":1,"s":"\\ud83d"}', '{"msgId":2,"s":"\\ude00"}'],
  "U+FFFD itself": ['{"msgId":1,"s":"\uFFFD"}', '{"msgId":2}'],
};

test.each(Object.entries(TRICKS))("not parsed at once: %s", (_, bodies) => {
  expect(together(...bodies)).toBeNull();
});

test.each(Object.entries({ plain: PLAIN, ...TRICKS }))("the same as byte by byte: %s", (_, bodies) => {
  const ahead = '{"msgId":7}';
  const stream = bytes(...[ahead, ...bodies, ahead, ahead].map((body) => frame(body)));
  expect(decode([stream], 4096)).toEqual(decode(byteByByte(stream), 4096));
});

test("invalid UTF-8 in one of the frames is that frame's fault alone", () => {
  const stream = bytes(frame('{"msgId":1}'), frame(bytes('{"msgId":2,"s":"', [0xc3], '"}')), frame('{"msgId":3}'));
  expect(decode([stream], 4096)).toEqual(decode(byteByByte(stream), 4096));
  expect(decode([stream], 4096)).toMatchObject([{ message: { msgId: 1 } }, { fault: {} }, { message: { msgId: 3 } }]);
});

test("what has been parsed and not been taken counts as buffered, keeps its place, and goes at the end", () => {
  const decoder = new Decoder(4096);
  const frames = Array.from({ length: 200 }, (_, i) => frame(`{"msgId":${i}}`));
  decoder.push(bytes(...frames));
  let left = bytes(...frames).length;
  for (let i = 0; i < 150; i++) {
    expect(decoder.next()).toEqual({ msgId: i });
    left -= frames[i]!.length;
    expect(decoder.bufferedBytes).toBe(left);
    if (i % 40 === 39) {
      decoder.push(frame(`{"msgId":${frames.length}}`));
      frames.push(frame(`{"msgId":${frames.length}}`));
      left += frames.at(-1)!.length;
    }
  }
  decoder.end();
  expect([decoder.next(), decoder.bufferedBytes]).toEqual([null, 0]);
});
