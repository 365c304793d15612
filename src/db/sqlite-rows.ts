// Rows of logs as the embedded database keeps them: column by column, because neighbours have much in common. A number is
// what it adds to the first row's, in `base`, and a column in which all are the same is empty; mids and bodies are as they are.
import type { LogRow } from "./db.ts";

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
];

/** One row or more, as JSON. All in one loop, without a helper for each column: each message comes here twice. */
export function encodeRows(rows: LogRow[]): string {
  const [conversation, seq, kind, sender, device, , ts] = rows[0]!;
  const base: Base = [conversation, seq, kind, sender, device, ts];
  const columns: Columns = [base, [], [], [], [], [], [], [], []];
  const [, conversations, seqs, kinds, senders, devices, mids, times, bodies] = columns;
  let [sameConversation, sameKind, sameSender, sameDevice, sameTime] = [true, true, true, true, true];
  for (const row of rows) {
    conversations.push(row[0] - conversation);
    if (row[0] !== conversation) sameConversation = false;
    seqs.push(row[1] - seq);
    kinds.push(row[2] - kind);
    if (row[2] !== kind) sameKind = false;
    senders.push(row[3] - sender);
    if (row[3] !== sender) sameSender = false;
    devices.push(row[4] - device);
    if (row[4] !== device) sameDevice = false;
    mids.push(row[5]);
    times.push(row[6] - ts);
    if (row[6] !== ts) sameTime = false;
    bodies.push(row[7]);
  }
  if (sameConversation) columns[1] = [];
  if (sameKind) columns[3] = [];
  if (sameSender) columns[4] = [];
  if (sameDevice) columns[5] = [];
  if (sameTime) columns[7] = [];
  return JSON.stringify(columns);
}

export function decodeRows(json: string): LogRow[] {
  const columns = JSON.parse(json) as Columns | LogRow[];
  if (areRows(columns)) return columns;
  const [base, conversations, seqs, kinds, senders, devices, mids, times, bodies] = columns;
  const [conversation, seq, kind, sender, device, ts] = base;
  return bodies.map((body, i) => [
    conversation + (conversations[i] ?? 0),
    seq + (seqs[i] ?? 0),
    kind + (kinds[i] ?? 0),
    sender + (senders[i] ?? 0),
    device + (devices[i] ?? 0),
    mids[i]!,
    ts + (times[i] ?? 0),
    body,
  ]);
}

/** Up to schema 2 rows were kept row by row; those stay. */
const areRows = (columns: Columns | LogRow[]): columns is LogRow[] => typeof columns[0]![7] === "string";
