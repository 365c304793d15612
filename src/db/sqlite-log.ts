// The conversations' log in the embedded database, laid out so that a commit touches few pages: a committed batch is
// one row appended to `journal`. Its messages are served from memory (the tails) until they are folded into the
// indexed table `message`, some with each commit and in runs of one conversation. A start reads the journal back.
import type { Database } from "bun:sqlite";
import type { Log, LogRow } from "./db.ts";
import { SqliteTx } from "./sqlite-tx.ts";

const COLUMNS = "conversation, seq, kind, sender, device, mid, ts, body";
const WIDTH = 8;
/** Folding starts when the tails have cost this much, and stops when what was there then is folded. */
const FOLD_AT_COST = 4_096;
/** Folded with each commit, against what that commit appended: above 1, so that folding always catches up. */
const FOLD_RATIO = 1.5;
/** How often a fold that fell behind folds faster. */
const FOLD_LATE_COST = 4 * FOLD_AT_COST;

/** Rows of one conversation that are committed but not yet in `message`, ascending, without gaps. */
interface Tail {
  conversation: number;
  rows: LogRow[];
}

/** Work of folding a row, in rows of ordinary size. */
const cost = (row: LogRow): number => 1 + row[7].length / 256;
const midKey = (conversation: number, sender: number, mid: string): string => `${conversation}/${sender}/${mid}`;

export class SqliteLog implements Log {
  private readonly tails = new Map<number, Tail>();
  private readonly tailMids = new Map<string, LogRow>();
  private tailCost = 0;
  /** Appended in the transaction under way: undone if it does not commit. */
  private appended: LogRow[] = [];
  /** Folded in the transaction under way: forgotten in memory when it commits. */
  private folded: { tail: Tail; count: number }[] = [];
  /** The fold under way: conversations to go, and the last journal row that they empty. */
  private round: { conversations: number[]; journalId: number } | null = null;
  private readonly sql: SqliteTx;

  constructor(db: Database) {
    this.sql = new SqliteTx(db, this);
  }

  /** Reads back what a run before this one committed and did not fold. */
  load(): void {
    const lastSeq = this.sql.prepare("SELECT last_seq FROM conversation WHERE id = ?");
    const inTable = new Map<number, number>();
    for (const { rows } of this.sql.prepare("SELECT rows FROM journal ORDER BY id").iterate() as Iterable<{ rows: string }>) {
      for (const row of JSON.parse(rows) as LogRow[]) {
        const [conversation, seq] = row;
        if (!inTable.has(conversation))
          inTable.set(conversation, (lastSeq.get(conversation) as { last_seq: number }).last_seq);
        if (seq > inTable.get(conversation)!) this.remember(row);
      }
    }
  }

  head(conversation: number, lastSeq: number): number {
    return this.tails.get(conversation)?.rows.at(-1)?.[1] ?? lastSeq;
  }

  async append(rows: LogRow[]): Promise<void> {
    for (const row of rows) {
      this.remember(row);
      this.appended.push(row);
    }
  }

  async page(conversation: number, after: number, limit: number, bytes: number): Promise<LogRow[]> {
    const rows: LogRow[] = [];
    const tail = this.tails.get(conversation)?.rows ?? [];
    let budget = bytes;
    if (tail.length === 0 || after + 1 < tail[0]![1]) {
      const stored = this.sql.prepare(`SELECT ${COLUMNS} FROM message WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?`);
      // A page at a time, because a conversation of large messages must not be read whole to be cut.
      for (let step = 16; budget > 0 && rows.length < limit; step = 128) {
        const got = stored.values(conversation, rows.at(-1)?.[1] ?? after, Math.min(step, limit - rows.length));
        for (const row of got as LogRow[]) {
          if (budget <= 0) break;
          rows.push(row);
          budget -= row[7].length;
        }
        if (got.length < step) break;
      }
    }
    const last = rows.at(-1)?.[1] ?? after;
    if (tail.length === 0 || last + 1 < tail[0]![1]) return rows;
    for (let i = last + 1 - tail[0]![1]; i < tail.length && rows.length < limit && budget > 0; i++) {
      rows.push(tail[i]!);
      budget -= tail[i]![7].length;
    }
    return rows;
  }

  async countOf(device: number, conversation: number, after: number): Promise<number> {
    const stored = this.sql.prepare("SELECT count(*) AS n FROM message WHERE conversation = ? AND seq > ? AND device = ?");
    const { n } = stored.get(conversation, after, device) as { n: number };
    const tail = this.tails.get(conversation)?.rows ?? [];
    return n + tail.reduce((sum, row) => sum + (row[1] > after && row[4] === device ? 1 : 0), 0);
  }

  async byMid(keys: [number, number, string][]): Promise<LogRow[]> {
    const stored = this.sql.prepare(`SELECT ${COLUMNS} FROM message WHERE conversation = ? AND sender = ? AND mid = ?`);
    const found: LogRow[] = [];
    for (const key of keys) {
      const row = this.tailMids.get(midKey(...key)) ?? (stored.values(...key)[0] as LogRow | undefined);
      if (row !== undefined) found.push(row);
    }
    return found;
  }

  /** How much the transaction under way has appended: a mark for `undo`. */
  get mark(): number {
    return this.appended.length;
  }

  /** Takes back what the transaction under way appended since `mark`. */
  undo(mark: number): void {
    for (const row of this.appended.splice(mark).reverse()) {
      const tail = this.tails.get(row[0])!;
      tail.rows.pop();
      if (tail.rows.length === 0) this.tails.delete(row[0]);
      this.forget(row);
    }
  }

  /** To be called before COMMIT: writes what the transaction appended, and folds some of what earlier ones did. */
  flush(): void {
    if (this.appended.length === 0) return;
    this.sql.prepare("INSERT INTO journal (rows) VALUES (?)").run(JSON.stringify(this.appended));
    this.foldSome(this.appended.reduce((sum, row) => sum + cost(row), 0) * (this.tailCost > FOLD_LATE_COST ? 3 : FOLD_RATIO));
  }

  /** To be called after COMMIT. */
  committed(): void {
    this.appended = [];
    for (const { tail, count } of this.folded) {
      for (const row of tail.rows.splice(0, count)) this.forget(row);
      if (tail.rows.length === 0) this.tails.delete(tail.conversation);
    }
    this.folded = [];
  }

  /** To be called after ROLLBACK. The fold starts anew: what it deleted and inserted is back where it was. */
  rolledBack(): void {
    this.undo(0);
    this.folded = [];
    this.round = null;
  }

  /** Folds everything: for a clean end, so that `message` is complete to whoever opens the file. */
  foldAll(): void {
    this.round = null;
    this.foldSome(Number.POSITIVE_INFINITY, 0);
  }

  private foldSome(quota: number, startAt = FOLD_AT_COST): void {
    if (this.round === null) {
      if (this.tailCost <= startAt) return;
      const { id } = this.sql.prepare("SELECT max(id) AS id FROM journal").get() as { id: number };
      this.round = { conversations: [...this.tails.keys()].sort((a, b) => b - a), journalId: id };
    }
    const { conversations, journalId } = this.round;
    while (quota > 0 && conversations.length > 0) {
      const tail = this.tails.get(conversations.at(-1)!);
      let count = 0;
      if (tail !== undefined) {
        while (count < tail.rows.length && quota > 0) quota -= cost(tail.rows[count++]!);
        this.fold(tail, count);
      }
      if (tail === undefined || count === tail.rows.length) conversations.pop();
    }
    if (conversations.length > 0) return;
    this.sql.prepare("DELETE FROM journal WHERE id <= ?").run(journalId);
    this.round = null;
  }

  private fold(tail: Tail, count: number): void {
    const rows = tail.rows.slice(0, count);
    this.sql.insertRows(`INSERT INTO message (${COLUMNS}) VALUES`, WIDTH, rows, "");
    this.sql.prepare("UPDATE conversation SET last_seq = ? WHERE id = ?").run(rows.at(-1)![1], tail.conversation);
    this.folded.push({ tail, count });
  }

  private remember(row: LogRow): void {
    const tail = this.tails.get(row[0]);
    if (tail === undefined) this.tails.set(row[0], { conversation: row[0], rows: [row] });
    else tail.rows.push(row);
    if (row[5] !== null) this.tailMids.set(midKey(row[0], row[3], row[5]), row);
    this.tailCost += cost(row);
  }

  private forget(row: LogRow): void {
    if (row[5] !== null) this.tailMids.delete(midKey(row[0], row[3], row[5]));
    this.tailCost -= cost(row);
  }
}
