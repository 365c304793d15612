// Devices: up to where each conversation has been delivered.
import type { Conversation, LogRow, Tx } from "../db/db.ts";
import { convName } from "../db/log-ids.ts";
import { conversationsOf, type Received } from "./conversation.ts";
import { noteUse, type Times } from "./owner.ts";

/** A conversation with rows that a device has not been delivered. */
export type Behind = [conversation: number, conv: string, delivered: number, head: number];

export interface Missing {
  /** Oldest next row first, where there are not more than STARTS_AT_ONCE: else in any order. */
  behind: Behind[];
  /** Rows in `behind`. */
  rows: number;
  /** Of these, those that the device has not sent itself: rows that follow. Null where `startsOf` is to be asked for it. */
  offline: number | null;
}

/** When the next row of each conversation that a device is behind in was sent, and how many rows the device sent itself. */
export interface Starts {
  times: number[];
  own: number;
}

/** Conversations that a log-in may be behind in without `startsOf`, and asked for by that at once: bounds what others wait. */
export const STARTS_AT_ONCE = 500;

/** A saved position: up to `seq` everything of `conversation` has been delivered. */
export type CursorOf = [conversation: number, seq: number];

/** A conversation to read on, from the delivered seq on; null: as the device's cursor says. */
export type Want = [conversation: number, delivered: number | null];

export interface Backlog {
  /** Oldest first over all conversations; each one's in ascending seq from its position on, without gaps. */
  rows: LogRow[];
  /** Of the senders in `rows`. */
  names: [id: number, name: string][];
  /** By want, in its order: the position it started from, the last seq there is, and its name. */
  found: [delivered: number, head: number, conv: string][];
}

/** Above this many rows in one login, those that the device sent itself are no longer looked for and counted out. */
const EXACT_COUNT_LIMIT = 10_000;
/** Conversations read for one page of backlog. The others wait, their oldest rows being younger. */
const PAGE_CONVERSATIONS = 32;
/** How often more of them is read for one page: bounds what others wait for it. */
const MERGE_ROUNDS = 4;

/** What is stored for a device that it has not been delivered. */
export async function missingOf(tx: Tx, userId: number, device: number): Promise<Missing> {
  return (await missingOfEach(tx, [[userId, device]]))[0]!;
}

export async function missingOfEach(tx: Tx, calls: [userId: number, device: number][]): Promise<Missing[]> {
  const [cursors, logs] = await Promise.all([
    tx.find<Cursor>(
      "cursor",
      ["device", "conversation", "seq"],
      ["device"],
      calls.map(([, device]) => [device]),
    ),
    conversationsOf(tx, [...new Set(calls.map(([userId]) => userId))]),
  ]);
  const cursorsOf = Map.groupBy(cursors, (cursor) => cursor.device);
  const logsOf = Map.groupBy(logs, (log) => log.user);
  return Promise.all(
    calls.map(([userId, device]) => missing(tx, device, cursorsOf.get(device) ?? [], logsOf.get(userId) ?? [])),
  );
}

interface Cursor {
  device: number;
  conversation: number;
  seq: number;
}

async function missing(tx: Tx, device: number, saved: Cursor[], logs: Received[]): Promise<Missing> {
  const cursors = new Map(saved.map(({ conversation, seq }) => [conversation, seq]));
  const behind: Behind[] = [];
  let rows = 0;
  for (const log of logs) {
    const delivered = position(log, cursors);
    const head = log.last_seq;
    if (head <= delivered) continue;
    behind.push([log.id, convName(log), delivered, head]);
    rows += head - delivered;
  }
  if (behind.length > STARTS_AT_ONCE) return { behind, rows, offline: null };
  const { times, own } = await startsOf(tx, device, behind, rows);
  return { behind: byTime(behind, times), rows, offline: rows - own };
}

/** For STARTS_AT_ONCE of the conversations in a Missing of `rows` rows. */
export async function startsOf(tx: Tx, device: number, behind: Behind[], rows: number): Promise<Starts> {
  const firsts = await Promise.all(behind.map(([id, , delivered]) => tx.log.page(id, delivered, 1, 1)));
  const isExact = rows <= EXACT_COUNT_LIMIT;
  const own = isExact ? behind.map(([id, , delivered]) => tx.log.countOf(device, id, delivered)) : [];
  return { times: firsts.map((page) => page[0]![6]), own: (await Promise.all(own)).reduce((a, b) => a + b, 0) };
}

/** Oldest next row first. */
export function byTime(behind: Behind[], times: number[]): Behind[] {
  const order = [...behind.keys()].sort((a, b) => times[a]! - times[b]!);
  return order.map((i) => behind[i]!);
}

/** A cursor from before the user left and joined again does not reach back before the join. */
const position = (log: { id: number; join_seq: number }, cursors: Map<number, number>): number =>
  Math.max(cursors.get(log.id) ?? 0, log.join_seq);

/** The next rows of the wanted conversations, merged by time: at most `maxRows`, and about `maxBytes` of text. */
export async function backlog(
  tx: Tx,
  [userId, device]: [number, number],
  wants: Want[],
  maxRows: number,
  maxBytes: number,
): Promise<Backlog> {
  const found = await resolve(tx, userId, device, wants);
  const behind = wants.flatMap(([conversation], i) => {
    const [from, head] = found[i]!;
    return head > from ? [{ conversation, from, head }] : [];
  });
  const rows = await merge(tx, behind, maxRows, maxBytes);
  const senders = [...new Set(rows.map((row) => row[3]))].map((id) => [id]);
  const names = await tx.find<{ id: number; name: string }>("user", ["id", "name"], ["id"], senders);
  return { rows, names: names.map(({ id, name }) => [id, name]), found };
}

async function resolve(tx: Tx, userId: number, device: number, wants: Want[]): Promise<Backlog["found"]> {
  const columns = ["id", "kind", "lo", "hi", "last_seq"];
  const unknown = wants.filter(([, delivered]) => delivered === null).map(([id]) => id);
  const [logs, cursors, joins] = await Promise.all([
    tx.find<Conversation>(
      "conversation",
      columns,
      ["id"],
      wants.map(([id]) => [id]),
    ),
    tx.find<{ conversation: number; seq: number }>(
      "cursor",
      ["conversation", "seq"],
      ["device", "conversation"],
      unknown.map((id) => [device, id]),
    ),
    tx.find<{ conversation: number; join_seq: number }>(
      "member",
      ["conversation", "join_seq"],
      ["conversation", "user_id"],
      unknown.map((id) => [id, userId]),
    ),
  ]);
  const byId = new Map(tx.log.current(logs).map((log) => [log.id, log]));
  const delivered = new Map(cursors.map(({ conversation, seq }) => [conversation, seq]));
  const joined = new Map(joins.map(({ conversation, join_seq }) => [conversation, join_seq]));
  return wants.map(([id, at]) => {
    const log = byId.get(id)!;
    return [at ?? position({ id, join_seq: joined.get(id) ?? 0 }, delivered), log.last_seq, convName(log)];
  });
}

/**
 * Merges the conversations: a little of each is read, and more of those that end first. Rows are emitted up to the horizon:
 * the time from which on an unread row may be older.
 */
async function merge(
  tx: Tx,
  behind: { conversation: number; from: number; head: number }[],
  maxRows: number,
  maxBytes: number,
): Promise<LogRow[]> {
  const candidates: { row: LogRow; order: number }[] = [];
  let reading = behind.map((each) => ({ ...each, order: 0 }));
  const open: typeof reading = [];
  for (let round = 1; ; round++) {
    const each = Math.max(4, Math.ceil(maxRows / Math.max(1, reading.length)));
    const eachBytes = Math.ceil(maxBytes / Math.max(1, reading.length));
    const pages = await Promise.all(
      reading.map(({ conversation, from }) => tx.log.page(conversation, from, each, eachBytes)),
    );
    for (const [i, page] of pages.entries()) {
      const source = reading[i]!;
      for (const row of page) {
        // The clock may have been set back: a row is never ordered before an earlier one of its conversation.
        source.order = Math.max(source.order, row[6]);
        candidates.push({ row, order: source.order });
      }
      source.from = page.at(-1)![1];
      if (source.from < source.head) open.push(source);
    }
    open.sort((a, b) => a.order - b.order);
    // Array.sort is stable: rows of equal times stay in their conversations' order.
    candidates.sort((a, b) => a.order - b.order);
    const horizon = open[0]?.order ?? Number.POSITIVE_INFINITY;
    const rows: LogRow[] = [];
    let bytes = 0;
    for (const { row, order } of candidates) {
      if (rows.length > 0 && order > horizon) break;
      if (rows.length > 0 && (rows.length >= maxRows || bytes >= maxBytes)) return rows;
      rows.push(row);
      bytes += row[7].length;
    }
    if (open.length === 0 || rows.length >= maxRows || bytes >= maxBytes || round === MERGE_ROUNDS) return rows;
    reading = open.splice(0, PAGE_CONVERSATIONS);
  }
}

/** Up to where the device has been delivered the conversation `conv`, as its cursor says; 0 where it takes no part. */
export async function deliveredOf(tx: Tx, [userId, device]: [number, number], conv: string): Promise<number> {
  const log = (await tx.log.named([conv])).get(conv);
  if (log === undefined) return 0;
  const [[delivered]] = (await resolve(tx, userId, device, [[log.id, null]])) as [Backlog["found"][0]];
  return delivered;
}

/**
 * Saves positions of devices, except of those that a later login owns: returns these devices. What a session leaves at its
 * end (`last`) counts in any case: the next login may have been committed meanwhile, and waits for it. One that nobody
 * waits for saves nothing.
 */
export async function saveCursors(
  tx: Tx,
  saves: [device: number, epoch: number, cursors: CursorOf[], last?: boolean][],
): Promise<number[]> {
  const devices = await tx.lock<Times & { epoch: number }>(
    "device",
    ["id", "epoch", "made", "used"],
    ["id"],
    saves.map(([id]) => [id]),
  );
  const epochs = new Map(devices.map(({ id, epoch }) => [id, epoch]));
  const isOwner = (device: number, epoch: number) => epochs.get(device) === epoch;
  const rows = saves
    .filter(([device, epoch, , last]) => isOwner(device, epoch) || (last === true && epochs.has(device)))
    .flatMap(([device, , cursors]) => cursors.map(([conversation, seq]) => [device, conversation, seq]));
  if (rows.length > 0) await tx.raise("cursor", ["device", "conversation", "seq"], rows);
  await noteUse(tx, devices);
  return saves.filter(([device, epoch, , last]) => !isOwner(device, epoch) && last !== true).map(([device]) => device);
}
