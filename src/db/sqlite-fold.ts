// Folding: moves what the journal holds into the tables `run` and `mid`, conversation by conversation: consecutive rows
// of one form a run, and runs fill page after page. Done in transactions of its own, between the others.
import { lastSeq, type Series } from "./series.ts";
import { type SqliteLog, weight } from "./sqlite-log.ts";
import { encodeSeries } from "./sqlite-rows.ts";
import type { SqliteTx } from "./sqlite-tx.ts";

/** Rows, by weight, in the journal at which folding begins: the more, the more of a conversation goes at once. */
const KEEP_ROWS = 16_384;
/** The limit while conversations average fewer rows than a run: each one folded costs pages of its own. */
const KEEP_MOST = 24_576;
/** Rows, by weight, folded at once: bounds how long the next request waits. */
const FOLD_ROWS = 1_024;
/** While rows gather slowly, smaller portions are folded, with pauses between them: few requests wait, and not for long. */
const SLOW = { portion: 256, pauseMs: 2 };
/** Rows gather slowly if the last pass began this long ago, and no more than this have gathered meanwhile. */
const SLOW_MS = 750;
const SLOW_ROWS = 32_768;
/** This many rows of a conversation are worth a run of their own. */
const RUN_ROWS = 32;
/**
 * Characters of a run, about: a little more than two pages, which SQLite packs densely. A whole run is read and parsed
 * to get at one of its rows; a longer message has a run of its own.
 */
const RUN_SIZE = 8_700;
/** Characters of a series beside its texts and mids. */
const SERIES_SIZE = 12;
/** The cost of a conversation beside its rows, in rows. */
const CONVERSATION_COST = 8;
/** What is folded is deleted from the journal in so many portions, of so many records at least. */
const DELETIONS = 16;
const MIN_DELETED = 64;
/** Pause after a failure: a full disk must not be burdened more than needed. */
const PAUSE_MS = 1_000;

/** One pass over everything that was in the journal when it began. */
interface Cycle {
  /** Id of the journal's last record at that time. */
  upTo: number;
  /** Id of the first record that is not deleted yet. */
  from: number;
  /** How many ids are deleted at once. */
  step: number;
  /** Conversations still to be folded, with their last seq at that time. */
  left: [conversation: number, seq: number][];
}

export class Folder {
  private cycle: Cycle | null = null;
  /** How many series of each conversation the transaction under way has folded. */
  private moved: [conversation: number, count: number][] = [];
  private pausedUntil = 0;
  /** When the last pass began, performance.now(). */
  private beganAt = Number.NEGATIVE_INFINITY;
  private slow = false;

  constructor(
    private readonly sql: SqliteTx,
    private readonly log: SqliteLog,
  ) {}

  /** Whether enough has gathered for folding to pay, or a pass is under way. */
  get due(): boolean {
    return (this.cycle !== null || this.isEnough) && performance.now() >= this.pausedUntil;
  }

  /** Whether anything is left to fold or to delete. */
  get pending(): boolean {
    return this.cycle !== null || this.log.size > 0;
  }

  private get isEnough(): boolean {
    const { size, tails } = this.log;
    return size >= KEEP_ROWS && (size >= KEEP_MOST || size >= tails.size * RUN_ROWS);
  }

  /** Folds a portion, of about `most` rows by weight, or deletes one from the journal, in the transaction under way. */
  fold(most?: number): void {
    this.cycle ??= this.begin();
    const { left, upTo, step } = this.cycle;
    for (let budget = most ?? (this.isSlow ? SLOW.portion : FOLD_ROWS); left.length > 0 && budget > 0; ) {
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
    this.cycle.from = Math.min(this.cycle.from + step, upTo + 1);
    this.sql.prepare("DELETE FROM journal WHERE id < ?").run(this.cycle.from);
    if (this.cycle.from > upTo) this.cycle = null;
  }

  committed(): void {
    if (this.isSlow) this.pausedUntil = performance.now() + SLOW.pauseMs;
    for (const [conversation, count] of this.moved) this.log.drop(conversation, count);
    this.moved = [];
  }

  /** The transaction was rolled back: what it had folded is still in the journal, and belongs to the next pass. */
  rolledBack(): void {
    this.moved = [];
    this.cycle = null;
    this.pausedUntil = performance.now() + PAUSE_MS;
  }

  private get isSlow(): boolean {
    return this.slow && this.log.size <= SLOW_ROWS;
  }

  private begin(): Cycle {
    const now = performance.now();
    this.slow = now - this.beganAt >= SLOW_MS;
    this.beganAt = now;
    const ids = this.sql.prepare("SELECT ifnull(min(id), 0) AS first, ifnull(max(id), 0) AS last FROM journal");
    const { first, last } = ids.get() as { first: number; last: number };
    const step = Math.max(MIN_DELETED, Math.ceil((last + 1 - first) / DELETIONS));
    const left: Cycle["left"] = [];
    for (const [conversation, tail] of this.log.tails) left.push([conversation, lastSeq(tail.at(-1)!)]);
    // By id, because neighbours in an index share pages; descending, because the list is consumed from its end.
    return { upTo: last, from: first, step, left: left.sort((a, b) => b[0] - a[0]) };
  }

  private move(conversation: number, all: Series[]): void {
    const insert = this.sql.prepare("INSERT INTO run (rows) VALUES (?)");
    // The id never leaves SQLite: in files of earlier schemas it can exceed what a JavaScript number holds.
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
