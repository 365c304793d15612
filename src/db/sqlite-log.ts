// The conversations' log in the embedded database, laid out for what a commit costs: the pages it touches. A commit
// appends its rows to the journal as one record and touches nothing else; what is there is kept in memory too, until
// it is folded, in large sorted portions, into the tables that are read (`run`, `mid`; see sqlite-fold.ts).
import type { Conversation, Log, LogKey, LogRow } from "./db.ts";
import type { SqliteTx } from "./sqlite-tx.ts";

const COLUMNS = ["id", "kind", "lo", "hi", "last_seq", "member_ver"];
const KEY = ["kind", "lo", "hi"];

/** Runs read at once. */
const RUNS_PER_READ = 8;

type MidKey = [conversation: number, sender: number, mid: string];

/** What a row weighs, in rows: long texts cost memory and pages. */
export const weight = (row: LogRow): number => 1 + (row[7].length >> 9);

const midKey = (conversation: number, sender: number, mid: string): string => `${conversation}/${sender}/${mid}`;

export class SqliteLog implements Log {
  /** Rows that are in the journal alone, by conversation: each list ascending without gaps, and not empty. */
  readonly tails = new Map<number, LogRow[]>();
  /** What the rows in `tails` weigh. */
  size = 0;
  /** The rows in `tails` that have a mid, and some that are folded already: since the last fold began, and before. */
  private mids = new Map<string, LogRow>();
  private olderMids = new Map<string, LogRow>();
  /** Rows of the transaction under way, in order. */
  private fresh: LogRow[] = [];

  constructor(private readonly sql: SqliteTx) {}

  /** Brings back what the journal of an earlier start holds. */
  replay(): void {
    const folded = new Map<number, number>();
    const lastSeq = this.sql.prepare("SELECT last_seq FROM conversation WHERE id = ?");
    for (const { rows } of this.sql.prepare("SELECT rows FROM journal ORDER BY id").iterate() as Iterable<{
      rows: string;
    }>)
      for (const row of JSON.parse(rows) as LogRow[]) {
        let last = folded.get(row[0]);
        if (last === undefined) {
          last = (lastSeq.get(row[0]) as { last_seq: number }).last_seq;
          folded.set(row[0], last);
        }
        if (row[1] <= last) continue;
        this.keep(row);
        if (row[5] !== null) this.mids.set(midKey(row[0], row[3], row[5]), row);
      }
  }

  named(keys: LogKey[]): Promise<Conversation[]> {
    return this.sql.find("conversation", COLUMNS, KEY, keys);
  }

  create(keys: LogKey[]): Promise<void> {
    return this.sql.insert("conversation", KEY, keys, "ignore");
  }

  /** What `named` read in this transaction is so still: nobody else writes to this database. */
  async lock(conversations: Conversation[]): Promise<Conversation[]> {
    return this.current(conversations);
  }

  async changeMembers(conversation: Conversation): Promise<void> {
    conversation.member_ver++;
    await this.sql.run("UPDATE conversation SET member_ver = member_ver + 1 WHERE id = ?", [conversation.id]);
  }

  current<Row extends { id: number; last_seq: number }>(rows: Row[]): Row[] {
    for (const row of rows) {
      const tail = this.tails.get(row.id);
      if (tail !== undefined) row.last_seq = tail.at(-1)![1];
    }
    return rows;
  }

  async append(rows: LogRow[]): Promise<boolean> {
    if (!(await this.claimMids(rows))) return false;
    for (const row of rows) {
      this.keep(row);
      this.fresh.push(row);
    }
    return true;
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
    const stored: MidKey[] = [];
    for (const key of keys) {
      const name = midKey(...key);
      const row = this.mids.get(name) ?? this.olderMids.get(name);
      if (row === undefined) stored.push(key);
      else found.push(row);
    }
    for (const { conversation, seq } of await this.findMids(stored))
      found.push(...(await this.page(conversation, seq - 1, 1, 1)));
    return found;
  }

  /** A point in the transaction to which `undo` goes back. */
  mark(): number {
    return this.fresh.length;
  }

  /** Forgets what was appended since `mark`; 0: in the whole transaction. */
  undo(mark: number): void {
    while (this.fresh.length > mark) {
      const row = this.fresh.pop()!;
      const tail = this.tails.get(row[0])!;
      tail.pop();
      if (tail.length === 0) this.tails.delete(row[0]);
      if (row[5] !== null) this.mids.delete(midKey(row[0], row[3], row[5]));
      this.size -= weight(row);
    }
  }

  /** Writes the transaction's rows to the journal. To be called right before its COMMIT. */
  record(): void {
    if (this.fresh.length > 0)
      this.sql.prepare("INSERT INTO journal (rows) VALUES (?)").run(JSON.stringify(this.fresh));
  }

  /** The transaction is committed. */
  committed(): void {
    this.fresh = [];
  }

  /** The first `count` rows of a conversation's tail are in the tables now. */
  drop(conversation: number, count: number): void {
    const tail = this.tails.get(conversation)!;
    for (let i = 0; i < count; i++) this.size -= weight(tail[i]!);
    if (tail.length === count) this.tails.delete(conversation);
    else tail.splice(0, count);
  }

  /** A fold of all rows begins: at its end their mids are in the table. */
  ageMids(): void {
    for (const [key, row] of this.mids) this.olderMids.set(key, row);
    this.mids = new Map();
  }

  forgetOlderMids(): void {
    this.olderMids = new Map();
  }

  private keep(row: LogRow): void {
    const tail = this.tails.get(row[0]);
    if (tail === undefined) this.tails.set(row[0], [row]);
    else tail.push(row);
    this.size += weight(row);
  }

  /** Notes the rows' mids; false, and none is noted, where one is known already. */
  private async claimMids(rows: LogRow[]): Promise<boolean> {
    const claimed: string[] = [];
    const keys: MidKey[] = [];
    let repeated = false;
    for (const row of rows) {
      const mid = row[5];
      if (mid === null) continue;
      const name = midKey(row[0], row[3], mid);
      repeated = this.mids.has(name) || this.olderMids.has(name);
      if (repeated) break;
      this.mids.set(name, row);
      claimed.push(name);
      keys.push([row[0], row[3], mid]);
    }
    if (!repeated && (await this.findMids(keys)).length === 0) return true;
    for (const name of claimed) this.mids.delete(name);
    return false;
  }

  /** Where the rows of these mids are in the tables. */
  private findMids(keys: MidKey[]): Promise<{ conversation: number; seq: number }[]> {
    return this.sql.find("mid", ["conversation", "seq"], ["conversation", "sender", "mid"], keys);
  }

  /** A conversation's rows after a seq, ascending. */
  private *rows(conversation: number, after: number): Generator<LogRow> {
    const tail = this.tails.get(conversation);
    const first = tail === undefined ? Number.POSITIVE_INFINITY : tail[0]![1];
    if (after + 1 < first) yield* this.folded(conversation, after);
    if (tail !== undefined) for (let i = Math.max(0, after + 1 - first); i < tail.length; i++) yield tail[i]!;
  }

  private *folded(conversation: number, after: number): Generator<LogRow> {
    const stored = this.sql.prepare(
      `SELECT rows FROM run WHERE place > (?1 << 32 | ?2) AND place < (?1 + 1 << 32) ORDER BY place LIMIT ${RUNS_PER_READ}`,
    );
    for (let at = after; ; ) {
      const got = stored.all(conversation, at) as { rows: string }[];
      for (const { rows } of got)
        for (const row of JSON.parse(rows) as LogRow[]) {
          at = row[1];
          if (at > after) yield row;
        }
      if (got.length < RUNS_PER_READ) return;
    }
  }
}
