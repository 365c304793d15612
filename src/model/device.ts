// Devices: how far each conversation has been delivered to them, and what they lack.
import type { Conversation, LogRow, Tx } from "../db/db.ts";
import { convName } from "../db/log-ids.ts";
import { conversationsOf, type Received } from "./conversation.ts";
import { noteUse, type Times } from "./owner.ts";

/** A conversation with rows not yet delivered to a device. */
export type Behind = [conversation: number, conv: string, delivered: number, head: number];

export interface Missing {
  /** Ordered by the time of the next row, oldest first, where there are at most STARTS_AT_ONCE: else unordered. */
  behind: Behind[];
  /** How many rows `behind` covers. */
  rows: number;
  /** How many of these the device has not sent itself, so will be pushed. Null: ask `startsOf`. */
  offline: number | null;
}

/** When the next row of each conversation in `behind` was sent, and how many rows the device sent itself. */
export interface Starts {
  times: number[];
  own: number;
}

/** Conversations for which `missingOf` or one `startsOf` reads the next rows: bounds how long others wait. */
export const STARTS_AT_ONCE = 500;

/** A saved position: everything up to `seq` of `conversation` has been delivered. */
export type CursorOf = [conversation: number, seq: number];

/** A conversation to be read, from after the seq `delivered`; null: from the device's cursor. */
export type Want = [conversation: number, delivered: number | null];

export interface Backlog {
  /** Oldest first over all conversations; each one's in ascending seq from its position on, without gaps. */
  rows: LogRow[];
  /** The names of the senders in `rows`. */
  names: [id: number, name: string][];
  /** For each want, in order: the position it was read from, the conversation's last seq, and its name. */
  found: [delivered: number, head: number, conv: string][];
}

/** Above this many rows, those that the device sent itself are no longer looked for and subtracted. */
const EXACT_COUNT_LIMIT = 10_000;
/** Conversations read on per round of a page. The others wait, their oldest rows being younger. */
const PAGE_CONVERSATIONS = 32;
/** Rounds of reading for one page: bounds how long others wait. */
const MERGE_ROUNDS = 4;

/** What is stored for a device and not delivered to it yet. */
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

/** For at most STARTS_AT_ONCE of the conversations in a Missing that covers `rows` rows. */
export async function startsOf(tx: Tx, device: number, behind: Behind[], rows: number): Promise<Starts> {
  const firsts = await Promise.all(behind.map(([id, , delivered]) => tx.log.page(id, delivered, 1, 1)));
  const isExact = rows <= EXACT_COUNT_LIMIT;
  const own = isExact ? behind.map(([id, , delivered]) => tx.log.countOf(device, id, delivered)) : [];
  return { times: firsts.map((page) => page[0]![6]), own: (await Promise.all(own)).reduce((a, b) => a + b, 0) };
}

/** Sorts by the time of the next row, oldest first. */
export function byTime(behind: Behind[], times: number[]): Behind[] {
  const order = [...behind.keys()].sort((a, b) => times[a]! - times[b]!);
  return order.map((i) => behind[i]!);
}

/** The delivered seq. A cursor from before the user left and rejoined does not reach back before the join. */
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
 * Merges the conversations by time: reads a little of each, then more of those whose read part ends first. Rows are
 * emitted up to the horizon: beyond that time an unread row might be older.
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
        // The clock may have been set back: a row never sorts before its predecessor in its conversation.
        source.order = Math.max(source.order, row[6]);
        candidates.push({ row, order: source.order });
      }
      source.from = page.at(-1)![1];
      if (source.from < source.head) open.push(source);
    }
    open.sort((a, b) => a.order - b.order);
    // Array.sort is stable: rows of equal times keep their conversation's order.
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

/** The seq up to which `conv` has been delivered to the device, by its cursor; 0 where it takes no part in it. */
export async function deliveredOf(tx: Tx, [userId, device]: [number, number], conv: string): Promise<number> {
  const log = (await tx.log.named([conv])).get(conv);
  if (log === undefined) return 0;
  const [[delivered]] = (await resolve(tx, userId, device, [[log.id, null]])) as [Backlog["found"][0]];
  return delivered;
}

/**
 * Saves positions of devices, except those that a later login owns: returns the ids of these. What a session leaves at
 * its end (`last`) is saved in any case: the next login may already be committed, and is waiting for it. (A session
 * that the new owner has not waited for does not call this.)
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
