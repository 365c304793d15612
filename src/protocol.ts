// The vocabulary of the wire protocol: message ids, error numbers, limits and field checks, as in PROTOCOL.md.
// Shared by server, client and tests; imports nothing.

export const MsgId = {
  register: 1000,
  registered: 1001,
  login: 1002,
  loggedIn: 1003,
  chat: 1004,
  addFriend: 1005,
  createGroup: 1006,
  joinGroup: 1007,
  groupChat: 1008,
  logout: 1009,
  answer: 1010,
  confirm: 1011,
  heartbeat: 1012,
  friends: 1014,
  groups: 1015,
  presence: 1021,
  notice: 1028,
} as const;

export const Errno = {
  ok: 0,
  nameTaken: 1,
  alreadyOnline: 2,
  badCredentials: 3,
  notLoggedIn: 10,
  forbidden: 11,
  notFound: 12,
  alreadyDone: 13,
  invalidField: 14,
  tooLarge: 15,
  rateLimited: 16,
  unknownMessage: 17,
  badJson: 18,
  unavailable: 19,
  shuttingDown: 20,
  replaced: 21,
} as const;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };
export type JsonObject = { [key: string]: Json | undefined };
/** A request as the codec hands it on: a JSON object whose `msgId` is an integer. */
export type Message = JsonObject & { msgId: number };

/** A failed request, as its sender is told: becomes the answer's `errno`, `errmsg` and `extra` fields. */
export class ChatError extends Error {
  constructor(
    readonly errno: number,
    readonly errmsg: string,
    readonly extra: JsonObject = {},
  ) {
    super(errmsg);
  }
}

export const invalid = (field: string, rule: string): ChatError =>
  new ChatError(Errno.invalidField, `${field}: ${rule}`, { field });

/** Protocol errors (errno 18) after which a connection is closed. */
export const MAX_PROTOCOL_ERRORS = 10;
/** The largest `--max-frame`, and the largest answer: the first length byte must stay 0. */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024 - 1;
export const DEFAULT_MAX_FRAME_BYTES = 65_536;
/** Members listed with a group; the rest is paged by request 1015. */
export const GROUP_MEMBERS_SHOWN = 200;
export const PAGE_LIMIT = 1000;
/** Stored messages that a first-generation client gets inside its login answer; the rest follows as pushes. */
export const LEGACY_OFFLINE_MESSAGES = 100;

/** Whether `text` has at most `max` characters (code points). */
function fits(text: string, max: number): boolean {
  if (text.length <= max) return true;
  if (text.length > 2 * max) return false;
  let count = 0;
  for (const _ of text) count++;
  return count <= max;
}

const optional = (message: JsonObject, field: string): boolean =>
  message[field] === undefined || message[field] === null;

/** A required text of `min` to `max` characters. */
export function text(message: JsonObject, field: string, min: number, max: number): string {
  const value = message[field];
  if (typeof value !== "string" || value.length < min || !fits(value, max))
    throw invalid(field, `a text of ${min ? `${min} to ` : "at most "}${max} characters`);
  return value;
}

export const optionalText = (message: JsonObject, field: string, max: number): string =>
  optional(message, field) ? "" : text(message, field, 0, max);

/**
 * `text` in NFC; null where that is longer than `max` characters. Long texts are not normalised at all, since a frame
 * of combining marks can take seconds: NFC merges at most four characters into one.
 */
function normalized(text: string, max: number): string | null {
  if (!fits(text, 4 * max)) return null;
  const normal = text.normalize("NFC");
  return fits(normal, max) ? normal : null;
}

/** A name of a user or group: 1 to 50 characters after NFC, none of them a control character. */
export function name(message: JsonObject, field: string): string {
  const value = message[field];
  const normal = typeof value === "string" ? normalized(value, 50) : null;
  if (!normal || /\p{Cc}/u.test(normal))
    throw invalid(field, "a text of 1 to 50 characters, without control characters");
  return normal;
}

/** The name of a device, at most 64 characters after NFC; "" where none is given. */
export function device(message: JsonObject): string {
  const value = message.device ?? "";
  const normal = typeof value === "string" ? normalized(value, 64) : null;
  if (normal === null) throw invalid("device", "a text of at most 64 characters");
  return normal;
}

export function password(message: JsonObject, field: string): string {
  const value = message[field];
  const bytes = typeof value === "string" ? new TextEncoder().encode(value).length : 0;
  if (typeof value !== "string" || bytes < 6 || bytes > 128) throw invalid(field, "a text of 6 to 128 bytes");
  return value;
}

/** A required positive integer: the id of a user or group. */
export function id(message: JsonObject, field: string): number {
  const value = message[field];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 1)
    throw invalid(field, "a positive integer");
  return value;
}

export function integer(message: JsonObject, field: string, min: number, max: number, otherwise?: number): number {
  if (otherwise !== undefined && optional(message, field)) return otherwise;
  const value = message[field];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max)
    throw invalid(field, `an integer from ${min} to ${max}`);
  return value;
}

export function flag(message: JsonObject, field: string): boolean {
  if (optional(message, field)) return false;
  const value = message[field];
  if (typeof value !== "boolean") throw invalid(field, "true or false");
  return value;
}

/** The sender's own id of a message; null where it gave none. */
export const mid = (message: JsonObject): string | null =>
  optional(message, "mid") ? null : text(message, "mid", 1, 64);

/** The request's own id, which its answer echoes. */
export function reqId(message: JsonObject): string | number | undefined {
  const value = message.reqId;
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string" ? fits(value, 64) : Number.isSafeInteger(value)) return value as string | number;
  throw invalid("reqId", "a text of at most 64 characters or an integer");
}

/** The fields of a request that its answer repeats; undefined where they are absent or invalid. */
export const echoedReqId = (message: JsonObject): string | number | undefined => orNothing(() => reqId(message));
export const echoedMid = (message: JsonObject): string | undefined =>
  message.msgId === MsgId.chat || message.msgId === MsgId.groupChat
    ? orNothing(() => mid(message) ?? undefined)
    : undefined;

function orNothing<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Throws errno 11 where the request states its sender (`fromid`, `id`) and that is not `userId`, the session's own. */
export function ownIds(message: JsonObject, userId: number): void {
  ownId(message, "fromid", userId);
  ownId(message, "id", userId);
}

function ownId(message: JsonObject, field: string, userId: number): void {
  if (optional(message, field)) return;
  if (id(message, field) !== userId)
    throw new ChatError(Errno.forbidden, `${field}: you are logged in as ${userId}, not ${message[field]}`);
}

export const directConv = (a: number, b: number): string => (a < b ? `u:${a}-${b}` : `u:${b}-${a}`);
export const groupConv = (groupId: number): string => `g:${groupId}`;

/** What a `conv` names: the two users of a direct conversation (`lo` ≤ `hi`), or a group (`lo`, with `hi` 0). */
export interface ConvKey {
  kind: "u" | "g";
  lo: number;
  hi: number;
}

/** What `conv` names; null where it does not have the form `u:1-2` or `g:3`. */
export function parseConv(conv: string): ConvKey | null {
  const match = /^(?:u:([1-9]\d{0,15})-([1-9]\d{0,15})|g:([1-9]\d{0,15}))$/.exec(conv);
  if (match === null) return null;
  const [lo, hi] = match[3] === undefined ? [Number(match[1]), Number(match[2])] : [Number(match[3]), 0];
  if (!Number.isSafeInteger(Math.max(lo, hi))) return null;
  if (match[3] !== undefined) return { kind: "g", lo, hi };
  return lo <= hi ? { kind: "u", lo, hi } : null;
}

/** A required name of a conversation. */
export function conv(message: JsonObject): string {
  const value = message.conv;
  if (typeof value !== "string" || parseConv(value) === null)
    throw invalid("conv", 'the name of a conversation, such as "u:1-2" or "g:3"');
  return value;
}

let clockSecond = -1;
let clockText = "";

/** `ts` (milliseconds since 1970 UTC) as `YYYY-MM-DD HH:MM:SS` in this machine's time zone. */
export function clock(ts: number): string {
  const second = Math.floor(ts / 1000);
  if (second !== clockSecond) {
    const t = new Date(ts);
    const two = (n: number) => String(n).padStart(2, "0");
    clockText = `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
    clockSecond = second;
  }
  return clockText;
}
