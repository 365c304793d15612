// A frame's bytes -> a message. Pure: knows no framing.
import { Errno, echoedReqId, type Message } from "../protocol.ts";

/** What a peer sent instead of a message. Errno 15 is the end of the stream; after errno 18 the next message follows. */
export class Fault {
  constructor(
    readonly errno: 15 | 18,
    readonly errmsg: string,
    /** Not even JSON, so that in text framing the rest of its line goes with it. */
    readonly malformed = false,
    readonly reqId?: string | number,
  ) {}
}

/** What the runtime's buffers can do beyond their types: a fraction of the cost of `write` and `toString`. */
export type Bytes = Buffer & {
  utf8Write(text: string, at: number): number;
  utf8Slice(start: number, end: number): string;
};

/** In the place of four bytes: no string of JSON holds a line feed, so a string cannot reach beyond it. */
const [OPEN, COMMA] = [Buffer.from("[\n  "), Buffer.from(",\n  ")];

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** One JSON object with an integer `msgId`; a fault with `malformed` where it is not even JSON. */
export function parseMessage(bytes: Buffer, start: number, end: number): Message | Fault {
  let text = (bytes as Bytes).utf8Slice(start, end);
  let value: unknown;
  try {
    // It has U+FFFD for what is not UTF-8; only a strict decoder tells that from a real U+FFFD.
    if (text.includes("\uFFFD")) text = strictUtf8.decode(bytes.subarray(start, end));
    if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    value = JSON.parse(text);
  } catch {
    return new Fault(Errno.badJson, "not a message: malformed JSON or invalid UTF-8", true);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return new Fault(Errno.badJson, "not a message: a JSON object was expected");
  const message = value as Message;
  if (text.includes("\\u") && hasLoneSurrogate(text))
    return new Fault(Errno.badJson, "not a message: a lone surrogate in a string");
  if (!Number.isSafeInteger(message.msgId))
    return new Fault(Errno.badJson, "msgId: an integer is required", false, echoedReqId(message));
  return message;
}

/**
 * Frames that lie one behind the other, parsed at once, as the list that they are with brackets and commas in place of
 * their headers: half of the cost of one by one. From `start` on, each has a header of four bytes, begins with `{` and
 * ends with `}` before its end. Null where one of them is no message or that cannot be told: a
 * value that reaches over a frame's end would have to be a list, so none of them may hold a bracket.
 */
export function parseTogether(bytes: Buffer, start: number, ends: number[]): Message[] | null {
  const last = ends.at(-1)!;
  for (let i = 0, at = start; i < ends.length; at = ends[i++]!) (i === 0 ? OPEN : COMMA).copy(bytes, at);
  const text = `${(bytes as Bytes).utf8Slice(start, last)}]`;
  for (let i = 0, at = start; i < ends.length; at = ends[i++]!) bytes.writeUInt32BE(ends[i]! - at - 4, at);
  const messages = text.includes("[", 1) || text.includes("\uFFFD") || text.includes("\\u") ? null : listIn(text);
  const areMessages = messages?.length === ends.length && messages.every(({ msgId }) => Number.isSafeInteger(msgId));
  return areMessages ? messages : null;
}

function listIn(text: string): Message[] | null {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** By its escapes, in text that is well-formed otherwise. Not by a walk over the value, which may be nested deeply. */
function hasLoneSurrogate(text: string): boolean {
  // Most escapes are of other characters, and the walk costs several times what parsing does.
  if (!/\\u[dD][89a-fA-F]/.test(text)) return false;
  /** Where the low surrogate that belongs to the last high one must follow. */
  let wanted = -1;
  for (let at = text.indexOf("\\"); at >= 0; ) {
    const isCode = text[at + 1] === "u";
    const end = at + (isCode ? 6 : 2);
    const code = isCode ? Number.parseInt(text.slice(at + 2, end), 16) : 0;
    const isLow = code >= 0xdc00 && code <= 0xdfff;
    if (isLow ? wanted !== at : wanted >= 0) return true;
    wanted = code >= 0xd800 && code <= 0xdbff ? end : -1;
    at = text.indexOf("\\", end);
  }
  return wanted >= 0;
}
