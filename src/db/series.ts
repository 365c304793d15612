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
  /** A JSON array without its brackets. */
  mids: string;
  /** The same. */
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
  const [mids, bodies] = [quoted(mid), quoted(body)];
  return { conversation, seq, count: 1, kind, sender, device, ts, low: mid, top: mid, mids, bodies };
}

export function rowsOf({ conversation, seq, kind, sender, device, ts, mids, bodies }: Series): LogRow[] {
  const all = parseList<string | null>(mids);
  return parseList<string>(bodies).map((body, i) => [conversation, seq + i, kind, sender, device, all[i]!, ts, body]);
}

/** A JSON array without its brackets, and back. */
export const parseList = <T>(json: string): T[] => JSON.parse(`[${json}]`);
/** What JSON may have to escape: quotes, backslashes, control characters, and surrogates, which may be alone. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are meant
const ESCAPED = /["\\\u0000-\u001f\ud800-\udfff]/;
/** A JSON string; by itself that takes half the time of JSON.stringify. */
export const quoted = (text: string | null): string =>
  text === null || ESCAPED.test(text) ? JSON.stringify(text) : `"${text}"`;
export const listOf = (values: unknown[]): string => JSON.stringify(values).slice(1, -1);
