// Mids (the senders' own message ids) in the embedded database. Most clients count, in numbers or by time: each mid is
// above all that its sender has used in the conversation. Such a mid cannot be a repetition, so it is neither looked up
// nor given an index row: its run has one for the range of its mids. All others have a row each, in `mid`.
import type { LogRow, Value } from "./db.ts";
import { isAbove, isCountable, lastSeq, rowsOf, type Series } from "./series.ts";
import type { SqliteTx } from "./sqlite-tx.ts";

export type MidKey = [conversation: number, sender: number, mid: string];

/** (Conversation, sender) pairs whose highest mid is kept in memory. */
const MAX_KNOWN = 50_000;
/** Mids looked up per statement. */
const KEYS_PER_READ = 64;

/** A text that sorts as `isAbove` orders: 9, 10, 11. */
const ordered = (mid: string): string => String.fromCharCode(32 + mid.length) + mid;
const nameOf = (sender: number, mid: string): string => `${sender}/${mid}`;

function enter(series: Series, index: Map<string, LogRow>): void {
  if (series.low !== null) for (const row of rowsOf(series)) index.set(nameOf(row[3], row[5]!), row);
}

export class SqliteMids {
  /** By conversation and sender, if looked up since the start: the highest countable mid; "": none. */
  private readonly highest = new Map<number, Map<number, string>>();
  private known = 0;
  /** Series in memory, of one row each, whose mid was not above all before it. */
  private readonly odd = new Set<Series>();
  /** Rows in memory by sender and mid; only for conversations in which one was looked up. */
  private readonly indexes = new Map<number, Map<string, LogRow>>();

  constructor(
    private readonly sql: SqliteTx,
    /** What is not folded: see SqliteLog. */
    private readonly tails: ReadonlyMap<number, Series[]>,
  ) {}

  /** Whether a series' mids are above all earlier ones of its sender, and so certainly new. */
  areNew({ conversation, sender, low }: Series): boolean {
    return low === null || (isAbove(low, this.highestOf(conversation, sender)) && isCountable(low));
  }

  /** Notes the mids of a series about to be kept: all new, or a single one. False: that one may have been used. */
  note(series: Series): boolean {
    if (!this.areNew(series)) {
      this.odd.add(series);
      return false;
    }
    if (series.top !== null) this.highest.get(series.conversation)!.set(series.sender, series.top);
    return true;
  }

  kept(series: Series): void {
    const index = this.indexes.size > 0 ? this.indexes.get(series.conversation) : undefined;
    if (index !== undefined) enter(series, index);
  }

  /** A series in memory has been undone, and removed from its tail. */
  undone(series: Series): void {
    // The known highest may be a mid that is gone now: it will be looked up again.
    if (this.highest.get(series.conversation)?.delete(series.sender)) this.known--;
    this.dropped(series);
  }

  /** A series that was noted is not kept after all. */
  refused(series: Series): void {
    this.odd.delete(series);
  }

  /** A series is in the tables now, and no longer in memory. */
  dropped(series: Series): void {
    if (series.low === null) return;
    if (this.odd.size > 0) this.odd.delete(series);
    const index = this.indexes.size > 0 ? this.indexes.get(series.conversation) : undefined;
    if (index !== undefined) for (const row of rowsOf(series)) index.delete(nameOf(row[3], row[5]!));
  }

  /** All of a conversation's rows are in the tables now. */
  emptied(conversation: number): void {
    this.indexes.delete(conversation);
  }

  /** Writes the index rows of a run. */
  fold(run: Series[]): void {
    const { conversation } = run[0]!;
    const last = lastSeq(run.at(-1)!);
    const ranges = new Map<number, [low: string, top: string]>();
    const odd: Value[][] = [];
    for (const series of run) {
      const { sender, low, top } = series;
      if (low === null) continue;
      if (this.odd.size > 0 && this.odd.has(series)) odd.push([conversation, sender, low, series.seq]);
      else {
        const range = ranges.get(sender);
        if (range === undefined) ranges.set(sender, [low, top!]);
        else range[1] = top!;
      }
    }
    const insert = this.sql.prepare(
      "INSERT INTO mid_range (conversation, sender, top, low, seq) VALUES (?, ?, ?, ?, ?)",
    );
    for (const [sender, [low, top]] of ranges) insert.run(conversation, sender, ordered(top), ordered(low), last);
    // A mid that is there already stays with its first message: folding must not fail.
    const head = "INSERT OR IGNORE INTO mid (conversation, sender, mid, seq) VALUES";
    this.sql.insertRows(head, 4, odd, "");
  }

  inMemory(conversation: number, sender: number, mid: string): LogRow | undefined {
    const tail = this.tails.get(conversation);
    if (tail === undefined) return undefined;
    let index = this.indexes.get(conversation);
    if (index === undefined) {
      index = new Map();
      for (const series of tail) enter(series, index);
      this.indexes.set(conversation, index);
    }
    return index.get(nameOf(sender, mid));
  }

  /** The rows with these mids, as far as they are in the tables. */
  async inTables(keys: MidKey[]): Promise<LogRow[]> {
    const found: LogRow[] = [];
    const columns = ["conversation", "sender", "mid"];
    const single = await this.sql.find<{ conversation: number; seq: number }>(
      "mid",
      ["conversation", "seq"],
      columns,
      keys,
    );
    for (const { conversation, seq } of single) found.push(...(await this.sql.log.page(conversation, seq - 1, 1, 1)));
    for (const [[conversation, sender, mid], last] of this.inRanges(keys)) {
      const run = this.sql.log.runAfter(conversation, last - 1)!;
      const row = run.find((each) => each[3] === sender && each[5] === mid);
      if (row !== undefined) found.push(row);
    }
    return found;
  }

  /** The keys that lie within the range of a run, each with that run's last seq. */
  private *inRanges(keys: MidKey[]): Generator<[key: MidKey, last: number]> {
    const statement = this.sql.prepare(
      `WITH wanted(i, c, s, m) AS (VALUES ${Array(KEYS_PER_READ).fill("(?, ?, ?, ?)")})
       SELECT i, (SELECT CASE WHEN low <= m THEN seq END FROM mid_range
                  WHERE conversation = c AND sender = s AND top >= m ORDER BY top LIMIT 1) AS last FROM wanted`,
    );
    for (let from = 0; from < keys.length; from += KEYS_PER_READ) {
      const params: Value[] = [];
      for (let i = from; i < from + KEYS_PER_READ; i++) {
        const key = keys[i];
        if (key === undefined) params.push(i, null, null, null);
        else params.push(i, key[0], key[1], isCountable(key[2]) ? ordered(key[2]) : null);
      }
      for (const { i, last } of statement.all(...params) as { i: number; last: number | null }[])
        if (last !== null) yield [keys[i]!, last];
    }
  }

  private highestOf(conversation: number, sender: number): string {
    const known = this.highest.get(conversation)?.get(sender);
    if (known !== undefined) return known;
    if (this.known >= MAX_KNOWN) {
      this.highest.clear();
      this.known = 0;
    }
    const stored = this.sql
      .prepare("SELECT max(top) AS top FROM mid_range WHERE conversation = ? AND sender = ?")
      .get(conversation, sender) as { top: string | null };
    let highest = stored.top?.slice(1) ?? "";
    for (const { sender: by, top } of this.tails.get(conversation) ?? [])
      if (by === sender && top !== null && isAbove(top, highest) && isCountable(top)) highest = top;
    const senders = this.highest.get(conversation) ?? new Map<number, string>();
    this.highest.set(conversation, senders.set(sender, highest));
    this.known++;
    return highest;
  }
}
