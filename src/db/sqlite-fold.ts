// Folding: what the journal holds goes into the tables `run` and `mid`, conversation by conversation: rows of one are a run
// together, and runs fill page after page. In transactions of its own, between the others.
import { lastSeq, type Series } from "./series.ts";
import { type SqliteLog, weight } from "./sqlite-log.ts";
import { encodeSeries } from "./sqlite-rows.ts";
import type { SqliteTx } from "./sqlite-tx.ts";

/** What may be in the journal alone before folding begins, in rows by weight: the more, the more of a conversation goes at once. */
const KEEP_ROWS = 16_384;
/** What may be there while a conversation has fewer rows than a run, on the average: each one folded costs pages of its own. */
const KEEP_MOST = 24_576;
/** So many rows of a conversation are worth a run of their own. */
const RUN_ROWS = 32;
/**
 * A run's characters, about: a little more than two pages, which SQLite packs densely. It is read and parsed to get at one of
 * its rows; a longer message has a run of its own.
 */
const RUN_SIZE = 8_700;
/** Of a series, beside its texts and mids. */
const SERIES_SIZE = 12;
/** What a conversation costs beside its rows, in rows. */
const CONVERSATION_COST = 8;
/** No folding for this long after it failed: a full disk must not be asked for more than is needed. */
const PAUSE_MS = 1_000;

/** One pass over everything that was in the journal when it began. */
interface Cycle {
  /** The journal's last record then. */
  upTo: number;
  /** Conversations that had rows there, and their last seq. */
  left: [conversation: number, seq: number][];
}

export class Folder {
  private cycle: Cycle | null = null;
  /** What the transaction under way has folded: how many series. */
  private moved: [conversation: number, count: number][] = [];
  private pausedUntil = 0;

  constructor(
    private readonly sql: SqliteTx,
    private readonly log: SqliteLog,
  ) {}

  /** Whether so much has gathered that folding pays. */
  get due(): boolean {
    return (this.cycle !== null || this.isEnough) && performance.now() >= this.pausedUntil;
  }

  private get isEnough(): boolean {
    const { size, tails } = this.log;
    return size >= KEEP_ROWS && (size >= KEEP_MOST || size >= tails.size * RUN_ROWS);
  }

  /** Folds about so many rows, by weight, inside the transaction under way. */
  fold(most: number): void {
    this.cycle ??= this.begin();
    const { left, upTo } = this.cycle;
    for (let budget = most; left.length > 0 && budget > 0; ) {
      const [conversation, seq] = left.at(-1)!;
      const tail = this.log.tails.get(conversation)!;
      let [count, rows, weighed] = [0, 0, 0];
      for (; count < tail.length && (rows < RUN_ROWS || weighed < budget); count++) {
        rows += tail[count]!.count;
        weighed += weight(tail[count]!);
      }
      this.move(conversation, tail.slice(0, count));
      this.moved.push([conversation, count]);
      if (lastSeq(tail[count - 1]!) < seq) break;
      left.pop();
      budget -= weighed + CONVERSATION_COST;
    }
    if (left.length > 0) return;
    this.sql.prepare("DELETE FROM journal WHERE id <= ?").run(upTo);
    this.cycle = null;
  }

  committed(): void {
    for (const [conversation, count] of this.moved) this.log.drop(conversation, count);
    this.moved = [];
  }

  /** The transaction was rolled back: what it had folded is in the journal still, and belongs to the next pass. */
  rolledBack(): void {
    this.moved = [];
    this.cycle = null;
    this.pausedUntil = performance.now() + PAUSE_MS;
  }

  private begin(): Cycle {
    const { last } = this.sql.prepare("SELECT ifnull(max(id), 0) AS last FROM journal").get() as { last: number };
    const left: Cycle["left"] = [];
    for (const [conversation, tail] of this.log.tails) left.push([conversation, lastSeq(tail.at(-1)!)]);
    // By id, because what is neighbours in an index shares pages; from the end, where the list is shortened.
    return { upTo: last, left: left.sort((a, b) => b[0] - a[0]) };
  }

  private move(conversation: number, all: Series[]): void {
    const insert = this.sql.prepare("INSERT INTO run (rows) VALUES (?)");
    // The id stays in SQLite: in files of earlier schemas it can be more than a number of JavaScript holds.
    const enter = this.sql.prepare("INSERT INTO run_end (conversation, seq, run) VALUES (?, ?, last_insert_rowid())");
    for (let from = 0, to = 0; from < all.length; from = to) {
      for (let size = 0; to < all.length && size < RUN_SIZE; to++)
        size += SERIES_SIZE + all[to]!.bodies.length + (all[to]!.mids?.length ?? 0);
      const run = all.slice(from, to);
      insert.run(encodeSeries(run));
      enter.run(conversation, lastSeq(run.at(-1)!));
      this.log.mids.fold(run);
    }
    this.sql.prepare("UPDATE conversation SET last_seq = ? WHERE id = ?").run(lastSeq(all.at(-1)!), conversation);
  }
}
