// The conversations' log in the embedded database, laid out for what a commit costs: the pages it touches. A commit
// appends its rows to the journal as one record and touches nothing else; they are kept in memory too, until they are
// folded, in large sorted portions, into the tables that are read (`run`, `mid`; see sqlite-fold.ts).
import type { Conversation, ConversationLog, LogRow } from "./db.ts";
import { convName, LOG_KEY, LogIds, logKeyOf } from "./log-ids.ts";
import { lastSeq, rowsOf, type Series, single } from "./series.ts";
import { type MidKey, SqliteMids } from "./sqlite-mids.ts";
import { decodeRows, encodeSeries } from "./sqlite-rows.ts";
import type { SqliteTx } from "./sqlite-tx.ts";

const COLUMNS = ["id", "kind", "lo", "hi", "last_seq", "member_ver"];

/** Weight of the runs cached in memory: enough for reading backlogs of many conversations at once. */
const MAX_RUNS_SIZE = 32_768;

/** With more rows than this, by weight, in the journal, operations wait for folding. */
export const MAX_JOURNAL_ROWS = 49_152;
/** With more than this, appends are refused: so many gather only if folding keeps failing. */
const REFUSED_JOURNAL_ROWS = 8 * MAX_JOURNAL_ROWS;

/** The weight of rows with `text` characters, in rows: long texts cost memory and pages. */
const weightOf = (rows: number, text: number): number => rows + (text >> 9);
export const weight = ({ count, bodies }: Series): number => weightOf(count, bodies.length);

export class SqliteLog implements ConversationLog {
  /** By conversation, what is in the journal but not folded: each list is ascending, without gaps, and not empty. */
  readonly tails = new Map<number, Series[]>();
  /** The weight of `tails`. */
  size = 0;
  readonly mids: SqliteMids;
  /** The last run read of each conversation: reading usually goes on in it. What is in the tables never changes. */
  private readonly runs = new Map<number, { rows: LogRow[]; weight: number }>();
  private runsSize = 0;
  /** What the transaction under way has appended, in order. */
  private fresh: Series[] = [];
  private readonly ids = new LogIds();
  /** The transaction under way has added to `ids`: if it is undone, those conversations may be undone too. */
  private hasNewIds = false;

  constructor(private readonly sql: SqliteTx) {
    this.mids = new SqliteMids(sql, this.tails);
  }

  /** Restores what an earlier start left in the journal. */
  replay(): void {
    const folded = new Map<number, number>();
    const lastSeq = this.sql.prepare("SELECT last_seq FROM conversation WHERE id = ?");
    for (const { rows } of this.sql.prepare("SELECT rows FROM journal ORDER BY id").iterate() as Iterable<{
      rows: string;
    }>)
      for (const row of decodeRows(rows)) {
        let last = folded.get(row[0]);
        if (last === undefined) {
          last = (lastSeq.get(row[0]) as { last_seq: number }).last_seq;
          folded.set(row[0], last);
        }
        if (row[1] <= last) continue;
        const series = single(row);
        this.mids.note(series);
        this.keep(series);
      }
  }

  async named(convs: string[]): Promise<Map<string, Conversation>> {
    const { found, unknown } = this.ids.find(convs);
    if (unknown.length === 0) return found;
    const read = await this.sql.find<Conversation>("conversation", COLUMNS, LOG_KEY, unknown.map(logKeyOf));
    this.ids.learn(read, found);
    if (read.length > 0) this.hasNewIds = true;
    return found;
  }

  create(convs: string[]): Promise<void> {
    return this.sql.insert("conversation", LOG_KEY, convs.map(logKeyOf), "ignore");
  }

  /** No lock needed: nobody else writes to this file. A direct conversation with a tail needs no read: no members. */
  async lock(named: Map<string, Conversation>): Promise<Map<string, Conversation>> {
    const others: Conversation[] = [];
    for (const each of named.values()) if (each.kind !== 0 || !this.tails.has(each.id)) others.push(each);
    for (const each of others) named.delete(convName(each));
    const ids = others.map(({ id }) => [id]);
    for (const conversation of await this.sql.find<Conversation>("conversation", COLUMNS, ["id"], ids))
      named.set(convName(conversation), conversation);
    this.current([...named.values()]);
    return named;
  }

  async changeMembers(conversation: Conversation): Promise<void> {
    conversation.member_ver++;
    await this.sql.run("UPDATE conversation SET member_ver = member_ver + 1 WHERE id = ?", [conversation.id]);
  }

  current<Row extends { id: number; last_seq: number }>(rows: Row[]): Row[] {
    for (const row of rows) {
      const tail = this.tails.get(row.id);
      if (tail !== undefined) row.last_seq = lastSeq(tail.at(-1)!);
    }
    return rows;
  }

  async append(all: Series[]): Promise<boolean> {
    if (this.size > REFUSED_JOURNAL_ROWS)
      throw Object.assign(new Error("the journal is full, and cannot be folded"), { code: "JOURNAL_FULL" });
    const mark = this.mark();
    const doubtful: MidKey[] = [];
    for (const each of all)
      for (const series of each.count === 1 || this.mids.areNew(each) ? [each] : apart(each)) {
        if (!this.mids.note(series)) {
          const key: MidKey = [series.conversation, series.sender, series.low!];
          doubtful.push(key);
          if (this.mids.inMemory(...key) !== undefined) {
            this.mids.refused(series);
            return this.undo(mark);
          }
        }
        this.keep(series);
        this.fresh.push(series);
      }
    if (doubtful.length === 0 || (await this.mids.inTables(doubtful)).length === 0) return true;
    return this.undo(mark);
  }

  async page(conversation: number, after: number, limit: number, bytes: number): Promise<LogRow[]> {
    const rows: LogRow[] = [];
    let budget = bytes;
    for (const row of this.rows(conversation, after)) {
      rows.push(row);
      budget -= row[7].length;
      if (budget <= 0 || rows.length === limit) break;
    }
    return rows;
  }

  async countOf(device: number, conversation: number, after: number): Promise<number> {
    let count = 0;
    for (const row of this.rows(conversation, after)) if (row[4] === device) count++;
    return count;
  }

  async byMid(keys: MidKey[]): Promise<LogRow[]> {
    const found: LogRow[] = [];
    const others: MidKey[] = [];
    for (const key of keys) {
      const row = this.mids.inMemory(...key);
      if (row === undefined) others.push(key);
      else found.push(row);
    }
    return found.concat(await this.mids.inTables(others));
  }

  /** A point in the transaction, for `undo`. */
  mark(): number {
    return this.fresh.length;
  }

  /** Undoes what was appended since `mark`; 0: in the whole transaction. */
  undo(mark: number): false {
    while (this.fresh.length > mark) {
      const series = this.fresh.pop()!;
      const tail = this.tails.get(series.conversation)!;
      tail.pop();
      if (tail.length === 0) this.tails.delete(series.conversation);
      this.mids.undone(series);
      this.size -= weight(series);
    }
    if (this.hasNewIds) this.ids.clear();
    this.hasNewIds = false;
    return false;
  }

  /** Writes the transaction's rows to the journal. To be called right before its COMMIT. */
  record(): void {
    if (this.fresh.length > 0) this.sql.prepare("INSERT INTO journal (rows) VALUES (?)").run(encodeSeries(this.fresh));
  }

  committed(): void {
    this.fresh = [];
    this.hasNewIds = false;
  }

  /** The first `count` series of a conversation's tail have been folded into the tables. */
  drop(conversation: number, count: number): void {
    const tail = this.tails.get(conversation)!;
    for (let i = 0; i < count; i++) {
      this.size -= weight(tail[i]!);
      this.mids.dropped(tail[i]!);
    }
    if (tail.length > count) tail.splice(0, count);
    else {
      this.tails.delete(conversation);
      this.mids.emptied(conversation);
    }
  }

  private keep(series: Series): void {
    const tail = this.tails.get(series.conversation);
    if (tail === undefined) this.tails.set(series.conversation, [series]);
    else tail.push(series);
    this.size += weight(series);
    this.mids.kept(series);
  }

  /** A conversation's rows after a seq, ascending. */
  private *rows(conversation: number, after: number): Generator<LogRow> {
    const tail = this.tails.get(conversation) ?? [];
    if (tail.length === 0 || after + 1 < tail[0]!.seq) yield* this.folded(conversation, after);
    for (let i = firstAbove(tail, after); i < tail.length; i++)
      for (const row of rowsOf(tail[i]!)) if (row[1] > after) yield row;
  }

  private *folded(conversation: number, after: number): Generator<LogRow> {
    for (let at = after; ; ) {
      const run = this.runAfter(conversation, at);
      if (run === null) return;
      for (let i = at + 1 - run[0]![1]; i < run.length; i++) yield run[i]!;
      at = run.at(-1)![1];
    }
  }

  /** The run with the row after a seq; null where it is not folded. Throws where the index leads to another run. */
  runAfter(conversation: number, after: number): LogRow[] | null {
    const known = this.runs.get(conversation);
    if (known !== undefined && known.rows[0]![1] <= after + 1 && known.rows.at(-1)![1] > after) return known.rows;
    const stored = this.sql
      .prepare(`SELECT rows FROM run
                WHERE id = (SELECT run FROM run_end WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT 1)`)
      .get(conversation, after) as { rows: string } | null;
    if (stored === null) return null;
    const rows = decodeRows(stored.rows);
    if (rows[0]![0] !== conversation || rows[0]![1] > after + 1 || rows.at(-1)![1] <= after)
      throw new Error(`the run after row ${after} of conversation ${conversation} is not there: the file is damaged`);
    const run = { rows, weight: weightOf(rows.length, stored.rows.length) };
    this.forgetRun(conversation);
    this.runs.set(conversation, run);
    this.runsSize += run.weight;
    while (this.runsSize > MAX_RUNS_SIZE) this.forgetRun(this.runs.keys().next().value!);
    return rows;
  }

  private forgetRun(conversation: number): void {
    const run = this.runs.get(conversation);
    if (run === undefined) return;
    this.runs.delete(conversation);
    this.runsSize -= run.weight;
  }
}

/** Splits a series of which only some mids may be new. Mids are copied: the highest would keep its batch in memory. */
function apart(series: Series): Series[] {
  return rowsOf(series).map(([conversation, seq, kind, sender, device, mid, ts, body]) =>
    single([conversation, seq, kind, sender, device, JSON.parse(JSON.stringify(mid)), ts, body]),
  );
}

/** Index of the first series in a tail that reaches beyond `seq` (binary search). */
function firstAbove(tail: Series[], seq: number): number {
  let [low, high] = [0, tail.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lastSeq(tail[middle]!) <= seq) low = middle + 1;
    else high = middle;
  }
  return low;
}
