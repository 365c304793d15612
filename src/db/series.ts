// Series: rows of a log that came together, of one kind, from one device. Their mids and bodies are not examined on the
// way: they stay JSON text, and what has to be done is done for many rows at once.
import type { LogRow } from "./db.ts";

export interface Series {
  conversation: number;
  /** Of the first row; the others follow without gaps. */
  seq: number;
  count: number;
  kind: number;
  sender: number;
  device: number;
  ts: number;
  /** The first row's mid. Mids of several rows are all null, or each is countable and above the one before. */
  low: string | null;
  /** The last row's mid. */
  top: string | null;
  /** As made by `innerOf`, like `bodies`; null: no row has one. */
  mids: string | null;
  bodies: string;
}

/** Printable ASCII without spaces, which JavaScript and SQLite sort alike. */
const COUNTABLE = /^[!-~]{1,64}$/;
export const isCountable = (mid: string): boolean => COUNTABLE.test(mid);
/** Ordered by length first, as numbers are, so that a counter's next mid is above those before. */
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

/** Strings as the part of a JSON array between its first and last quote; BETWEEN joins such parts. */
export const innerOf = (strings: string[]): string => JSON.stringify(strings).slice(2, -2);
/** The inverse of `innerOf`. Without escapes the strings share `inner`'s memory, at a fraction of JSON.parse's cost. */
export function listOf(inner: string): string[] {
  if (inner.includes("\\")) return JSON.parse(`["${inner}"]`);
  return inner.includes(BETWEEN) ? inner.split(BETWEEN) : [inner];
}
export const BETWEEN = '","';
/** Whether it can be split at BETWEEN: a string that ends with a quote and a comma would contain that. */
export const isDivisible = (inner: string): boolean => !inner.includes(`\\${BETWEEN}`);

/** What JSON may have to escape: quotes, backslashes, control characters, and surrogates, which may be unpaired. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are intended
const ESCAPED = /["\\\u0000-\u001f\ud800-\udfff]/;
/** `innerOf` a single string: most are returned unchanged. */
export const escaped = (text: string): string => (ESCAPED.test(text) ? JSON.stringify(text).slice(1, -1) : text);
