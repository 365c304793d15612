// The two most frequent messages, composed as bytes: what `JSON.stringify` would give, without a string for each. Parts
// that seldom change from one to the next (who writes, where, when) are cached as text, to be written by few calls:
// each costs as much as many bytes.
import type { LogRow } from "../db/db.ts";
import { escaped } from "../db/series.ts";
import type { Composed } from "../net/encode.ts";
import type { Bytes } from "../net/json.ts";
import { type ConvKey, clock, MsgId } from "../protocol.ts";

/** Roughly the characters of a composed message beside its texts: field names and numbers. */
const FIELDS = 150;
const [ZERO, QUOTE, BACKSLASH, CLOSE_OBJECT] = [0x30, 0x22, 0x5c, 0x7d];
/** Texts up to this length are written character by character, which saves two calls. */
const SHORT = 24;
/** Up to here integers are divided as 32-bit integers. */
const SMALL = 0x7fffffff;

function putText(out: Bytes, at: number, text: string): number {
  return at + out.utf8Write(text, at);
}

/** Writes `text` as a JSON string. */
function putString(out: Bytes, at: number, text: string): number {
  out[at] = QUOTE;
  let end = at + 1;
  if (text.length > SHORT) return putQuoted(out, end, text);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code > 0x7e || code === QUOTE || code === BACKSLASH) return putQuoted(out, at + 1, text);
    out[end++] = code;
  }
  out[end] = QUOTE;
  return end + 1;
}

/** Writes the rest of a JSON string after its opening quote. */
function putQuoted(out: Bytes, at: number, text: string): number {
  const end = putText(out, at, escaped(text));
  out[end] = QUOTE;
  return end + 1;
}

function putInteger(out: Bytes, at: number, value: number): number {
  if (value > SMALL) return putText(out, at, String(value));
  let end = at + 1;
  for (let rest = value; rest >= 10; rest = (rest / 10) | 0) end++;
  for (let i = end - 1, rest = value; i >= at; i--) {
    const next = (rest / 10) | 0;
    out[i] = ZERO + rest - next * 10;
    rest = next;
  }
  return end;
}

/** ASCII characters that need no escapes. */
function putShort(out: Bytes, at: number, text: string): number {
  for (let i = 0; i < text.length; i++) out[at + i] = text.charCodeAt(i);
  return at + text.length;
}

/** The text that messages of a conversation have in common. */
interface CachedText {
  conv: string;
  /** The part before a message's seq. */
  beforeSeq: string;
  /** The sender whose messages begin with `head`. */
  sender: number;
  name: string;
  head: string;
}

/** A cache for the conversations written last, indexed by the low bits of their ids. */
const cachedTexts: CachedText[] = Array.from({ length: 256 }, () => ({
  conv: "",
  beforeSeq: "",
  sender: 0,
  name: "",
  head: "",
}));

function cachedTextOf(conversation: number, conv: string): CachedText {
  const cached = cachedTexts[conversation % cachedTexts.length]!;
  if (cached.conv !== conv) {
    cached.conv = conv;
    cached.beforeSeq = `,"conv":"${conv}","seq":`;
    cached.sender = 0;
  }
  return cached;
}

/** The last message's time, as text. */
const lastTime = { ts: -1, text: "" };

function putTime(out: Bytes, at: number, ts: number): number {
  if (lastTime.ts !== ts) {
    lastTime.ts = ts;
    lastTime.text = `,"time":"${clock(ts)}","ts":${ts}`;
  }
  return putText(out, at, lastTime.text);
}

const ERRNO = ',"errno":0';
const ERRNO_MID = `${ERRNO},"mid":`;
const [CHAT_ACK, GROUP_ACK] = ['{"msgId":1010,"ack":1004', '{"msgId":1010,"ack":1008'];
const [CHAT_ACK_MID, GROUP_ACK_MID] = [CHAT_ACK + ERRNO_MID, GROUP_ACK + ERRNO_MID];

/** The answer to a stored 1004 or 1008. */
export class Ack implements Composed {
  readonly length: number;

  constructor(
    private readonly ack: number,
    private readonly reqId: string | number | undefined,
    private readonly mid: string | null,
    private readonly conversation: number,
    private readonly conv: string,
    private readonly seq: number,
    private readonly ts: number,
  ) {
    this.length = FIELDS + conv.length + (mid?.length ?? 0) + (typeof reqId === "string" ? reqId.length : 0);
  }

  compose(out: Bytes, start: number): number {
    const { reqId, mid } = this;
    const isChat = this.ack === MsgId.chat;
    let at = start;
    if (reqId === undefined && mid !== null) at = putText(out, at, isChat ? CHAT_ACK_MID : GROUP_ACK_MID);
    else {
      at = putText(out, at, isChat ? CHAT_ACK : GROUP_ACK);
      if (reqId !== undefined) at = putText(out, at, `,"reqId":${JSON.stringify(reqId)}`);
      at = putText(out, at, mid === null ? ERRNO : ERRNO_MID);
    }
    if (mid !== null) at = putString(out, at, mid);
    at = putText(out, at, cachedTextOf(this.conversation, this.conv).beforeSeq);
    at = putTime(out, putInteger(out, at, this.seq), this.ts);
    out[at] = CLOSE_OBJECT;
    return at + 1;
  }
}

/** Writes the part before the text of a message sent by `sender`. */
function putHead(out: Bytes, at: number, cached: CachedText, sender: number, name: string, key: ConvKey): number {
  if (cached.sender !== sender || cached.name !== name) {
    const { kind, lo, hi } = key;
    const from = kind === "u" ? `1004,"fromid":${sender},"id":${sender}` : `1008,"id":${sender}`;
    const to = kind === "u" ? `"toid":${sender === lo ? hi : lo}` : `"groupid":${lo}`;
    cached.sender = sender;
    cached.name = name;
    cached.head = `{"msgId":${from},"name":${JSON.stringify(name)},${to},"msg":`;
  }
  return putText(out, at, cached.head);
}

/** The push of a message, direct or in a group. */
export class ChatPush implements Composed {
  readonly length: number;

  constructor(
    private readonly row: LogRow,
    private readonly conv: string,
    private readonly key: ConvKey,
    private readonly name: string,
  ) {
    this.length = FIELDS + conv.length + name.length + row[7].length + (row[5]?.length ?? 0);
  }

  compose(out: Bytes, start: number): number {
    // Not destructured: that iterates over the row, which makes an object and code that is compiled again and again.
    const { row } = this;
    const mid = row[5];
    const cached = cachedTextOf(row[0], this.conv);
    let at = putHead(out, start, cached, row[3], this.name, this.key);
    at = putTime(out, putString(out, at, row[7]), row[6]);
    at = putInteger(out, putText(out, at, cached.beforeSeq), row[1]);
    if (mid !== null) at = putString(out, putShort(out, at, ',"mid":'), mid);
    out[at] = CLOSE_OBJECT;
    return at + 1;
  }
}
