// Streams of bytes for the codec's tests: frames, cuts, and what a decoder makes of them.
import { expect } from "bun:test";
import { Decoder, type Framing } from "../../src/net/codec.ts";
import { Fault } from "../../src/net/json.ts";
import type { Message } from "../../src/protocol.ts";

/** A result, with the framing in which it would be answered. */
export type Result = { message: Message; framing: Framing } | { fault: Fault; framing: Framing };

export const bytes = (...parts: (string | number[] | Uint8Array)[]): Buffer =>
  Buffer.concat(parts.map((part) => Buffer.from(part as string)));

/** A frame of the length-prefixed framing. */
export function frame(body: string | Uint8Array): Buffer {
  const json = bytes(body);
  const out = Buffer.alloc(4 + json.length);
  out.writeUInt32BE(json.length);
  json.copy(out, 4);
  return out;
}

/** A JSON object of exactly `size` bytes. */
export function objectOf(size: number, msgId = 1): string {
  const empty = `{"msgId":${msgId},"s":""}`;
  return empty.replace('""', `"${"x".repeat(size - empty.length)}"`);
}

/** Cuts at these offsets, in ascending order. */
export function cutAt(stream: Buffer, offsets: number[]): Buffer[] {
  return [0, ...offsets].map((start, i) => stream.subarray(start, offsets[i] ?? stream.length));
}

export const byteByByte = (stream: Buffer): Buffer[] =>
  cutAt(
    stream,
    Array.from(stream.keys()).filter((offset) => offset > 0),
  );

/**
 * What a decoder returns for these chunks, one after the other, and in the end for a first object that it holds.
 * Each chunk is spoilt once it is consumed, and what is buffered stays within the limit. `release`: whether to give up
 * waiting for the terminator of an object held at the end of a chunk.
 */
export function decode(chunks: Buffer[], maxFrameBytes: number, release = (): boolean => false): Result[] {
  const decoder = new Decoder(maxFrameBytes);
  const results: Result[] = [];
  const keep = (result: Message | Fault): void => {
    const { framing } = decoder;
    results.push(result instanceof Fault ? { fault: result, framing } : { message: result, framing });
  };
  const drain = (): void => {
    for (let result = decoder.next(); result !== null; result = decoder.next()) keep(result);
  };
  for (const [i, chunk] of chunks.entries()) {
    const given = Buffer.from(chunk);
    decoder.push(given);
    if (decoder.bufferedBytes > maxFrameBytes + chunk.length) throw new Error("more buffered than a frame and a chunk");
    drain();
    given.fill(0x7d);
    if (decoder.bufferedBytes > maxFrameBytes) throw new Error("more kept than a frame");
    if (decoder.holding && (i === chunks.length - 1 || release())) {
      keep(decoder.releaseHeld()!);
      drain();
    }
  }
  return results;
}

/** A result in one word: the `msgId`, or the errno with a "!". */
const word = (result: Result): string => ("fault" in result ? `!${result.fault.errno}` : String(result.message.msgId));

export const words = (results: Result[]): string => results.map(word).join(" ");

/** Every detail that must not depend on how the stream was cut. */
export const details = (results: Result[]): string =>
  results
    .map((result) =>
      "fault" in result
        ? `!${result.fault.errno} ${result.fault.errmsg} ${result.fault.reqId}`
        : JSON.stringify(result.message),
    )
    .join("\n");

/** What the stream decodes to; fails where any cut in two, or byte by byte, gives something else than the whole. */
export function decodeEveryWay(stream: Buffer, maxFrameBytes = 4096): Result[] {
  const whole = decode([stream], maxFrameBytes);
  const expected = details(whole);
  for (let offset = 1; offset < stream.length; offset++) {
    const cut = details(decode(cutAt(stream, [offset]), maxFrameBytes));
    if (cut !== expected) expect(`cut at ${offset}:\n${cut}`).toBe(expected);
  }
  expect(details(decode(byteByByte(stream), maxFrameBytes))).toBe(expected);
  return whole;
}
