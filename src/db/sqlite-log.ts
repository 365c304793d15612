// The conversations' log in the embedded database, laid out so that a commit touches few pages: the rows of one
// conversation that are committed together are one row of the table `run`.
import type { Log, LogRow, Value } from "./db.ts";
import type { SqliteTx } from "./sqlite-tx.ts";

/** Rows in one run: what is read and parsed to get at one of them. */
const RUN_ROWS = 32;
/** Text in one run, in characters; a longer message has a run of its own. */
const RUN_TEXT = 16 * 1024;
/** Runs read at once. */
const RUNS_PER_READ = 8;

export class SqliteLog implements Log {
  constructor(private readonly sql: SqliteTx) {}

  async append(rows: LogRow[]): Promise<boolean> {
    // By conversation, because what is neighbours in an index costs one page; a stable sort keeps their order.
    const sorted = rows.length === 1 ? rows : rows.toSorted((a, b) => a[0] - b[0]);
    if (!this.claimMids(sorted)) return false;
    const insert = this.sql.prepare("INSERT INTO run (conversation, last_seq, rows) VALUES (?, ?, ?)");
    const moveOn = this.sql.prepare("UPDATE conversation SET last_seq = ? WHERE id = ?");
    for (let from = 0; from < sorted.length; ) {
      const conversation = sorted[from]![0];
      let to = from;
      for (let text = 0; sorted[to]?.[0] === conversation && to - from < RUN_ROWS && text <= RUN_TEXT; to++)
        text += sorted[to]![7].length;
      const lastSeq = sorted[to - 1]![1];
      insert.run(conversation, lastSeq, JSON.stringify(sorted.slice(from, to)));
      if (sorted[to]?.[0] !== conversation) moveOn.run(lastSeq, conversation);
      from = to;
    }
    return true;
  }

  async page(conversation: number, after: number, limit: number, bytes: number): Promise<LogRow[]> {
    const rows: LogRow[] = [];
    let budget = bytes;
    for (const run of this.runs(conversation, after))
      for (const row of run) {
        if (row[1] <= after) continue;
        rows.push(row);
        budget -= row[7].length;
        if (budget <= 0 || rows.length === limit) return rows;
      }
    return rows;
  }

  async countOf(device: number, conversation: number, after: number): Promise<number> {
    let count = 0;
    for (const run of this.runs(conversation, after))
      for (const row of run) if (row[1] > after && row[4] === device) count++;
    return count;
  }

  async byMid(keys: [number, number, string][]): Promise<LogRow[]> {
    const stored = this.sql.prepare("SELECT seq FROM mid WHERE conversation = ? AND sender = ? AND mid = ?");
    const found: LogRow[] = [];
    for (const key of keys) {
      const first = stored.get(...key) as { seq: number } | null;
      if (first !== null) found.push(...(await this.page(key[0], first.seq - 1, 1, 1)));
    }
    return found;
  }

  /** Enters the rows' mids, which at once tells repetitions; false, and none is entered, where there is one. */
  private claimMids(rows: LogRow[]): boolean {
    const mids: Value[][] = [];
    for (const [conversation, seq, , sender, , mid] of rows)
      if (mid !== null) mids.push([conversation, sender, mid, seq]);
    if (mids.length === 0) return true;
    const insert = "INSERT OR IGNORE INTO mid (conversation, sender, mid, seq) VALUES";
    if (this.sql.insertRows(insert, 4, mids, "") === mids.length) return true;
    // Those that were stored before have lower seqs.
    const undo = this.sql.prepare("DELETE FROM mid WHERE conversation = ? AND sender = ? AND mid = ? AND seq = ?");
    for (const mid of mids) undo.run(...mid);
    return false;
  }

  /** The runs that end after a seq, ascending. */
  private *runs(conversation: number, after: number): Generator<LogRow[]> {
    const stored = this.sql.prepare(
      `SELECT last_seq, rows FROM run WHERE conversation = ? AND last_seq > ? ORDER BY last_seq LIMIT ${RUNS_PER_READ}`,
    );
    for (let at = after; ; ) {
      const got = stored.all(conversation, at) as { last_seq: number; rows: string }[];
      for (const { last_seq, rows } of got) {
        at = last_seq;
        yield JSON.parse(rows) as LogRow[];
      }
      if (got.length < RUNS_PER_READ) return;
    }
  }
}
