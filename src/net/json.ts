// One frame's bytes -> a message. Pure: knows nothing of framing.
import { Errno, echoedReqId, type Message } from "../protocol.ts";

/** What arrived instead of a message. Errno 15 ends the stream; after errno 18 the next message follows. */
export class Fault {
  constructor(
    readonly errno: 15 | 18,
    readonly errmsg: string,
    /** It is not even JSON: in text framing the rest of its line is discarded with it. */
    readonly malformed = false,
    readonly reqId?: string | number,
  ) {}
}

/** Buffer methods that the runtime's types lack: a fraction of the cost of `write` and `toString`. */
export type Bytes = Buffer & {
  utf8Write(text: string, at: number): number;
  utf8Slice(start: number, end: number): string;
};

/** As long as a header. No JSON string holds a line feed, so with one in between none runs on into the next frame. */
const [OPEN, COMMA] = [Buffer.from("[\n  "), Buffer.from(",\n  ")];

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** One JSON object with an integer `msgId`; a fault with `malformed` where it is not even JSON. */
export function parseMessage(bytes: Buffer, start: number, end: number): Message | Fault {
  let text = (bytes as Bytes).utf8Slice(start, end);
  let value: unknown;
  try {
    // `utf8Slice` yields U+FFFD for invalid UTF-8; only a strict decoder can tell that from a real U+FFFD.
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
 * Parses adjacent frames as one JSON list, with brackets and commas in place of their headers (put back afterwards):
 * half the cost of one by one. The first header is at `start`; each frame has a header of four bytes, then `{`, and `}`
 * just before its end. Null where one of them is not a message or that cannot be told: as only a list could stretch
 * across the end of a frame, none of them may contain a bracket.
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

/** Examines the escapes of an otherwise well-formed text, not the parsed value, which may be deeply nested. */
function hasLoneSurrogate(text: string): boolean {
  // Most escapes are of other characters, and the loop below costs several times as much as parsing.
  if (!/\\u[dD][89a-fA-F]/.test(text)) return false;
  /** Index at which the low surrogate of the last high one must follow; -1 where none is due. */
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
