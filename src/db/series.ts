// Series: rows of a log that came together, of one kind, from one device. Their mids and bodies are not looked at on their
// way, so they stay the JSON that they came as, and what is done for a row is done for many.
import type { LogRow } from "./db.ts";

export interface Series {
  conversation: number;
  /** Of its first row; the others follow without gaps. */
  seq: number;
  count: number;
  kind: number;
  sender: number;
  device: number;
  ts: number;
  /** The first row's mid. In a series of several rows each mid is countable and above the one before, or all are null. */
  low: string | null;
  /** The last row's. */
  top: string | null;
  /** As JSON, see `innerOf`; null: none has any. */
  mids: string | null;
  bodies: string;
}

/** Without spaces and beyond ASCII nothing: what JavaScript and SQLite put in the same order. */
const COUNTABLE = /^[!-~]{1,64}$/;
export const isCountable = (mid: string): boolean => COUNTABLE.test(mid);
/** As numbers are, so that a counter's next mid is above those before: by length first. */
export const isAbove = (mid: string, other: string): boolean =>
  mid.length === other.length ? mid > other : mid.length > other.length;

export const lastSeq = ({ seq, count }: Series): number => seq + count - 1;

/** A row as a series of its own. */
export function single([conversation, seq, kind, sender, device, mid, ts, body]: LogRow): Series {
  const [mids, bodies] = [mid === null ? null : escaped(mid), escaped(body)];
  return { conversation, seq, count: 1, kind, sender, device, ts, low: mid, top: mid, mids, bodies };
}

export function rowsOf({ conversation, seq, count, kind, sender, device, ts, low, mids, bodies }: Series): LogRow[] {
  // The usual case in a shared database.
  if (count === 1) return [[conversation, seq, kind, sender, device, low, ts, listOf(bodies)[0]!]];
  const all = mids === null ? [] : listOf(mids);
  return listOf(bodies).map((body, i) => [conversation, seq + i, kind, sender, device, all[i] ?? null, ts, body]);
}

/** Strings as what stands between the first quote and the last one of a JSON array: BETWEEN puts such together. */
export const innerOf = (strings: string[]): string => JSON.stringify(strings).slice(2, -2);
/** The strings again. Where nothing is escaped they share the memory of `inner`, and take a fraction of JSON.parse's time. */
export function listOf(inner: string): string[] {
  if (inner.includes("\\")) return JSON.parse(`["${inner}"]`);
  return inner.includes(BETWEEN) ? inner.split(BETWEEN) : [inner];
}
export const BETWEEN = '","';
/** Whether BETWEEN takes them apart too: it may stand at a string's end, of which the last characters are a quote and a comma. */
export const isDivisible = (inner: string): boolean => !inner.includes(`\\${BETWEEN}`);

/** What JSON may have to escape: quotes, backslashes, control characters, and surrogates, which may be alone. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are meant
const ESCAPED = /["\\\u0000-\u001f\ud800-\udfff]/;
/** One string, as `innerOf`: most are what they are. */
export const escaped = (text: string): string => (ESCAPED.test(text) ? JSON.stringify(text).slice(1, -1) : text);
