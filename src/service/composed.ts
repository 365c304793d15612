// The two messages that are sent most, put together as bytes: what `JSON.stringify` would make of them, without a text for
// each. What changes seldom from one to the next (who writes, where, when) is kept as text, of the last one.
import type { LogRow } from "../db/db.ts";
import { escaped } from "../db/series.ts";
import type { Composed } from "../net/encode.ts";
import type { Bytes } from "../net/json.ts";
import { type ConvKey, clock, MsgId } from "../protocol.ts";

/** About a composed message's characters beside its texts: names of fields, and numbers. */
const FIELDS = 150;
const [ZERO, QUOTE, BACKSLASH, CLOSE_OBJECT] = [0x30, 0x22, 0x5c, 0x7d];
/** Texts up to this length are written character by character: two calls less. */
const SHORT = 24;
/** Integers below are divided as such. */
const SMALL = 0x7fffffff;

function putText(out: Bytes, at: number, text: string): number {
  return at + out.utf8Write(text, at);
}

/** `text` as a string of JSON. */
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

/** What of `text` as a string of JSON follows the first quote. */
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

const written = { conv: "", seqOf: "", ts: -1, timeOf: "" };

function putSeq(out: Bytes, at: number, conv: string, seq: number): number {
  if (written.conv !== conv) Object.assign(written, { conv, seqOf: `,"conv":"${conv}","seq":` });
  return putInteger(out, putText(out, at, written.seqOf), seq);
}

function putTime(out: Bytes, at: number, ts: number): number {
  if (written.ts !== ts) Object.assign(written, { ts, timeOf: `,"time":"${clock(ts)}","ts":${ts}` });
  return putText(out, at, written.timeOf);
}

/** The answer to a stored 1004 or 1008. */
export class Ack implements Composed {
  readonly length: number;

  constructor(
    private readonly ack: number,
    private readonly reqId: string | number | undefined,
    private readonly mid: string | null,
    private readonly conv: string,
    private readonly seq: number,
    private readonly ts: number,
  ) {
    this.length = FIELDS + conv.length + (mid?.length ?? 0) + (typeof reqId === "string" ? reqId.length : 0);
  }

  compose(out: Bytes, start: number): number {
    const { ack, reqId, mid } = this;
    let at = putText(out, start, ack === MsgId.chat ? '{"msgId":1010,"ack":1004' : '{"msgId":1010,"ack":1008');
    if (reqId !== undefined) at = putText(out, at, `,"reqId":${JSON.stringify(reqId)}`);
    at = putText(out, at, mid === null ? ',"errno":0' : ',"errno":0,"mid":');
    if (mid !== null) at = putString(out, at, mid);
    at = putTime(out, putSeq(out, at, this.conv, this.seq), this.ts);
    out[at] = CLOSE_OBJECT;
    return at + 1;
  }
}

const head = { kind: 0, sender: 0, name: "", conv: "", text: "" };

/** What comes before the message's text. */
function headOf(kind: number, sender: number, name: string, conv: string, key: ConvKey): string {
  if (head.conv !== conv || head.sender !== sender || head.name !== name || head.kind !== kind) {
    const from = kind === MsgId.chat ? `"fromid":${sender},"id":${sender}` : `"id":${sender}`;
    const to = kind === MsgId.chat ? `"toid":${sender === key.lo ? key.hi : key.lo}` : `"groupid":${key.lo}`;
    const text = `{"msgId":${kind},${from},"name":${JSON.stringify(name)},${to},"msg":`;
    Object.assign(head, { kind, sender, name, conv, text });
  }
  return head.text;
}

/** The push of a message, to a user or to a group. */
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
    const [, seq, kind, sender, , mid, ts, text] = this.row;
    let at = putText(out, start, headOf(kind, sender, this.name, this.conv, this.key));
    at = putString(out, at, text);
    at = putSeq(out, putTime(out, at, ts), this.conv, seq);
    if (mid !== null) at = putString(out, putText(out, at, ',"mid":'), mid);
    out[at] = CLOSE_OBJECT;
    return at + 1;
  }
}
