// Messages -> bytes, in the three framings.
import type { Framing } from "./codec.ts";
import type { Bytes } from "./json.ts";

const HEADER_BYTES = 4;
const [NUL, LF] = [0x00, 0x0a];

/** A message that writes its own bytes when it is sent: cheaper than a string, for the most frequent messages. */
export interface Composed {
  /** Approximate number of characters. */
  readonly length: number;
  /** Writes valid UTF-8 into `out` from `at` on, at most 6 bytes for each of `length`; returns the end. */
  compose(out: Bytes, at: number): number;
}

/** An outgoing message, as JSON text. */
export type Outgoing = string | Composed;

/** The most bytes that `encode` needs for `message`. */
export const roomFor = (message: Outgoing): number =>
  message.length * (typeof message === "string" ? 3 : 6) + HEADER_BYTES;

/** Writes `message`, framed, into `out` from `at` on, where there must be `roomFor(message)` bytes; returns the end. */
export function encode(message: Outgoing, framing: Framing, out: Buffer, at: number): number {
  const bytes = out as Bytes;
  const start = framing === "length" ? at + HEADER_BYTES : at;
  const end = typeof message === "string" ? start + bytes.utf8Write(message, start) : message.compose(bytes, start);
  if (framing === "length") {
    out.writeUInt32BE(end - start, at);
    return end;
  }
  out[end] = framing === "nul" ? NUL : LF;
  return end + 1;
}
