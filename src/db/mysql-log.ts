// The conversations' log in MySQL: one table row per log row. What a transaction appends is held back until its COMMIT,
// and sent with it in one packet.
import type { Conversation, ConversationLog, Head, LogRow, Value } from "./db.ts";
import { convName, LOG_KEY, logKeyOf } from "./log-ids.ts";
import { Stale } from "./mysql-errors.ts";
import { literals, selects, statement, toObjects } from "./mysql-sql.ts";
import type { MysqlTx } from "./mysql-tx.ts";
import { rowsOf, type Series } from "./series.ts";

type MidKey = [conversation: number, sender: number, mid: string];

const ROW = ["conversation", "seq", "kind", "sender", "device", "mid", "ts", "body"];
const LOCKED = ["id", "kind", "lo", "hi", "last_seq", "member_ver"];
const PAGE = "FROM message WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?";
const INSERT = "INSERT INTO message (conversation, seq, kind, sender, device, mid, ts, body, size) VALUES";
/** Conversations advanced per UPDATE: each row is compared with all of them. */
const MOVED_AT_ONCE = 64;

export class MysqlLog implements ConversationLog {
  private readonly locked = new Map<number, Conversation>();
  /** The locked conversations that this transaction changes. */
  private readonly moved = new Set<Conversation>();
  private fresh: LogRow[] = [];

  constructor(private readonly tx: MysqlTx) {}

  async named(convs: string[]): Promise<Map<string, Conversation>> {
    const { ids } = this.tx.options;
    const { found, unknown } = ids.find(convs);
    if (unknown.length === 0) return found;
    const read = await this.tx.find<Conversation>("conversation", LOCKED, LOG_KEY, unknown.map(logKeyOf));
    ids.learn(read, found);
    return found;
  }

  /** Outside the transaction and in order, so that two transactions creating the same ones do not deadlock. */
  async create(convs: string[]): Promise<void> {
    if (this.tx.begun) throw new Error("conversations are made before the transaction writes");
    const inOrder = convs.map(logKeyOf).sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
    const made = this.tx.inserts("INSERT IGNORE INTO conversation (kind, lo, hi) VALUES", inOrder, "");
    await Promise.all(made.map((sql) => this.tx.read(sql)));
  }

  async lock(named: Map<string, Conversation>): Promise<Map<string, Conversation>> {
    const ids = [...named.values()].map(({ id }) => [id]).sort((a, b) => a[0]! - b[0]!);
    const from = "conversation FORCE INDEX (PRIMARY)";
    const results = selects(from, LOCKED, ["id"], ids).map((sql) => this.tx.inside(`${sql} ORDER BY id FOR UPDATE`));
    const rows = (await Promise.all(results)).flatMap((result) => toObjects<Conversation>(result));
    for (const row of rows) this.locked.set(row.id, row);
    const gone = [...named].filter(([, { id }]) => !this.locked.has(id));
    if (gone.length === 0) return new Map(rows.map((row) => [convName(row), row]));
    // The next try reads their ids anew.
    for (const [conv] of gone) this.tx.options.ids.forget(conv);
    throw new Stale("conversations are gone");
  }

  /** Nothing to correct: here the table is always up to date. */
  current<Row extends { id: number; last_seq: number }>(rows: Row[]): Row[] {
    return rows;
  }

  async changeMembers(conversation: Conversation): Promise<void> {
    conversation.member_ver++;
    this.moved.add(conversation);
    await this.tx.run("UPDATE conversation SET member_ver = member_ver + 1 WHERE id = ?", [conversation.id]);
  }

  async append(all: Series[]): Promise<boolean> {
    const rows = all.flatMap(rowsOf);
    const mids = new Set<string>();
    const keys: MidKey[] = [];
    for (const [conversation, , , sender, , mid] of rows)
      if (mid !== null) {
        mids.add(`${conversation}/${sender}/${mid}`);
        keys.push([conversation, sender, mid]);
      }
    if (mids.size < keys.length) return false;
    // Repetitions are rare: they show as a duplicate key, and the transaction is repeated carefully.
    if (this.tx.options.careful && (await this.byMid(keys)).length > 0) return false;
    for (const row of rows) {
      const conversation = this.locked.get(row[0])!;
      conversation.last_seq = row[1];
      this.moved.add(conversation);
      this.fresh.push(row);
    }
    return true;
  }

  async page(conversation: number, after: number, limit: number, bytes: number): Promise<LogRow[]> {
    let count = limit;
    if (limit > 1) {
      const sizes = await this.tx.read(statement(`SELECT size ${PAGE}`, [conversation, after, limit]));
      let budget = bytes;
      for (count = 0; count < sizes.rows.length && budget > 0; count++) budget -= sizes.rows[count]![0] as number;
      if (count === 0) return [];
    }
    const { rows } = await this.tx.read(statement(`SELECT ${ROW} ${PAGE}`, [conversation, after, count]));
    return rows as unknown as LogRow[];
  }

  async countOf(device: number, conversation: number, after: number): Promise<number> {
    const sql = "SELECT COUNT(*) FROM message WHERE conversation = ? AND seq > ? AND device = ?";
    return (await this.tx.read(statement(sql, [conversation, after, device]))).rows[0]![0] as number;
  }

  async byMid(keys: MidKey[]): Promise<LogRow[]> {
    const from = "message FORCE INDEX (message_mid)";
    const found = selects(from, ROW, ["conversation", "sender", "mid"], keys).map((sql) => this.tx.read(sql));
    return (await Promise.all(found)).flatMap(({ rows }) => rows as unknown as LogRow[]);
  }

  /** The heads of the conversations that this transaction changes. */
  heads(): Head[] {
    return [...this.moved].map((moved) => [moved.id, convName(moved), moved.last_seq, moved.member_ver]);
  }

  /** The statements that store what was appended. */
  flush(): string[] {
    const rows: Value[][] = this.fresh.map((row) => [...row, Buffer.byteLength(row[7])]);
    const statements = this.tx.inserts(INSERT, rows, "");
    const moved = [...new Map(this.fresh.map((row) => [row[0], row[1]]))];
    for (let from = 0; from < moved.length; from += MOVED_AT_ONCE) {
      const some = moved.slice(from, from + MOVED_AT_ONCE);
      const cases = some.map(([id, seq]) => `WHEN ${id} THEN ${seq}`).join(" ");
      const ids = literals(some.map(([id]) => id));
      statements.push(`UPDATE conversation SET last_seq = CASE id ${cases} END WHERE id IN (${ids})`);
    }
    return statements;
  }
}
