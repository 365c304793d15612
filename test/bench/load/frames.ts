// Reads and makes frames without parsing or composing JSON: the load must cost less than what it measures.
import { encodeText } from "../peer.ts";

const [ZERO, NINE] = [0x30, 0x39];
/** Bytes 9 to 12 of every message that server and relay send are its msgId: {"msgId":1004, … */
const MSG_ID_TENS = 11;
const MSG_ID_KEY = Buffer.from('{"msgId":');

/** The msgId of a frame. */
export function kindOf(bytes: Buffer, start: number): number {
  if (bytes[start + MSG_ID_KEY.length - 1] !== MSG_ID_KEY[MSG_ID_KEY.length - 1])
    throw new Error(`a frame does not begin with its msgId: ${bytes.toString("utf8", start, start + 100)}`);
  return 1000 + (bytes[start + MSG_ID_TENS]! - ZERO) * 10 + bytes[start + MSG_ID_TENS + 1]! - ZERO;
}

/**
 * Finds a field in frames of one kind on one connection. These are alike, so it is looked for where it was the last time,
 * counted from the frame's start or its end, and searched only where it is at neither. Texts must not hold the key.
 */
export class Field {
  private readonly key: Buffer;
  private fromStart = 0;
  private fromEnd = 0;

  constructor(name: string) {
    this.key = Buffer.from(`"${name}":`);
  }

  /** Where the field's value begins. Throws where there is none. */
  find(bytes: Buffer, start: number, end: number): number {
    if (this.isAt(bytes, start + this.fromStart)) return start + this.fromStart + this.key.length;
    if (this.isAt(bytes, end - this.fromEnd)) return end - this.fromEnd + this.key.length;
    const at = bytes.indexOf(this.key, start);
    if (at < 0 || at >= end) throw new Error(`no ${this.key} in ${bytes.toString("utf8", start, end)}`);
    this.fromStart = at - start;
    this.fromEnd = end - at;
    return at + this.key.length;
  }

  private isAt(bytes: Buffer, at: number): boolean {
    const { key } = this;
    for (let i = 0; i < key.length; i++) if (bytes[at + i] !== key[i]) return false;
    return true;
  }
}

/** The number whose digits begin at `at`. */
export function numberAt(bytes: Buffer, at: number): number {
  let value = 0;
  for (let byte = bytes[at]!; byte >= ZERO && byte <= NINE; byte = bytes[++at]!) value = value * 10 + byte - ZERO;
  return value;
}

/** A mid is the sender's index among those of its conversation, then the message's number. Always as many digits. */
const INDEX_DIGITS = 2;
const NUMBER_DIGITS = 8;

export const senderOf = (bytes: Buffer, mid: number): number =>
  (bytes[mid + 1]! - ZERO) * 10 + bytes[mid + INDEX_DIGITS]! - ZERO;

/** The message's number; `mid`: where the field's value begins. */
export const messageOf = (bytes: Buffer, mid: number): number => numberAt(bytes, mid + 1 + INDEX_DIGITS);

/** One sender's requests, alike but for their mids: made once, and only the number's digits are written each time. */
export class Requests {
  private readonly bytes: Buffer;
  /** Of one request. */
  readonly size: number;
  /** Behind the last digit of the first request's mid. */
  private readonly digitsEnd: number;

  /** `to`: the field that names the receiver; `most`: requests made at once. */
  constructor(msgId: number, to: string, textBytes: number, index: number, most: number) {
    const mid = `${String(index).padStart(INDEX_DIGITS, "0")}${"0".repeat(NUMBER_DIGITS)}`;
    const one = encodeText(`{"msgId":${msgId},${to},"msg":"${"x".repeat(textBytes)}","mid":"${mid}"}`);
    this.size = one.length;
    this.digitsEnd = one.length - 2;
    this.bytes = Buffer.concat(Array.from({ length: most }, () => one));
  }

  get most(): number {
    return this.bytes.length / this.size;
  }

  /** `count` requests from number `first` on, to be sent before the next are made. */
  make(first: number, count: number): Buffer {
    const { bytes, size } = this;
    for (let i = 0, end = this.digitsEnd; i < count; i++, end += size)
      for (let value = first + i, at = end - 1; at >= end - NUMBER_DIGITS; at--) {
        const rest = Math.floor(value / 10);
        bytes[at] = ZERO + value - rest * 10;
        value = rest;
      }
    return bytes.subarray(0, count * size);
  }
}
