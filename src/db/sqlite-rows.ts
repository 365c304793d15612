// The stored form of log rows in the embedded database: series by series in columns, because neighbours have much in
// common. Numbers are differences from the first row's, in `base`; a column whose values are all equal is empty. Mids
// and bodies are kept as they came, one per row.
import type { LogRow } from "./db.ts";
import { BETWEEN, type Series } from "./series.ts";

type Base = [conversation: number, seq: number, kind: number, sender: number, device: number, ts: number];
type Columns = [
  base: Base,
  conversations: number[],
  seqs: number[],
  kinds: number[],
  senders: number[],
  devices: number[],
  mids: (string | null)[],
  times: number[],
  bodies: string[],
  /** For each series, the number of rows up to its end; empty where each has one row. Absent up to schema 3. */
  ends?: number[],
];

/** One or more series, as JSON. One loop, without a helper per column, because every message passes here twice. */
export function encodeSeries(all: Series[]): string {
  const { conversation, seq, kind, sender, device, ts } = all[0]!;
  const conversations: number[] = [];
  const seqs: number[] = [];
  const kinds: number[] = [];
  const senders: number[] = [];
  const devices: number[] = [];
  const mids: (string | null)[] = [];
  const times: number[] = [];
  const bodies: string[] = [];
  const ends: number[] = [];
  let rows = 0;
  let [sameConversation, sameKind, sameSender, sameDevice, sameTime] = [true, true, true, true, true];
  let haveMids = true;
  for (const each of all) {
    conversations.push(each.conversation - conversation);
    if (each.conversation !== conversation) sameConversation = false;
    seqs.push(each.seq - seq);
    kinds.push(each.kind - kind);
    if (each.kind !== kind) sameKind = false;
    senders.push(each.sender - sender);
    if (each.sender !== sender) sameSender = false;
    devices.push(each.device - device);
    if (each.device !== device) sameDevice = false;
    mids.push(each.mids);
    if (each.mids === null) haveMids = false;
    times.push(each.ts - ts);
    if (each.ts !== ts) sameTime = false;
    bodies.push(each.bodies);
    rows += each.count;
    ends.push(rows);
  }
  const base: Base = [conversation, seq, kind, sender, device, ts];
  const numbers = JSON.stringify([
    base,
    sameConversation ? [] : conversations,
    seqs,
    sameKind ? [] : kinds,
    sameSender ? [] : senders,
    sameDevice ? [] : devices,
  ]);
  const [time, end] = [sameTime ? "[]" : JSON.stringify(times), rows === all.length ? "[]" : JSON.stringify(ends)];
  const mid = haveMids ? `"${mids.join(BETWEEN)}"` : all.map(midsOf).join();
  return `${numbers.slice(0, -1)},[${mid}],${time},["${bodies.join(BETWEEN)}"],${end}]`;
}

const midsOf = ({ mids, count }: Series): string => (mids === null ? Array(count).fill("null").join() : `"${mids}"`);

export function decodeRows(json: string): LogRow[] {
  const columns = JSON.parse(json) as Columns | LogRow[];
  if (areRows(columns)) return columns;
  const [base, conversations, seqs, kinds, senders, devices, mids, times, bodies, ends = []] = columns;
  const [conversation, seq, kind, sender, device, ts] = base;
  let series = 0;
  let first = 0;
  return bodies.map((body, i) => {
    if (i === (ends[series] ?? series + 1)) {
      series++;
      first = i;
    }
    return [
      conversation + (conversations[series] ?? 0),
      seq + (seqs[series] ?? 0) + i - first,
      kind + (kinds[series] ?? 0),
      sender + (senders[series] ?? 0),
      device + (devices[series] ?? 0),
      mids[i]!,
      ts + (times[series] ?? 0),
      body,
    ];
  });
}

/** Up to schema 2 rows were stored row by row; such records remain. */
const areRows = (columns: Columns | LogRow[]): columns is LogRow[] => typeof columns[0]![7] === "string";
