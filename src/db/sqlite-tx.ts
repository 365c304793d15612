// The embedded database's dialect of Tx, on bun:sqlite. Runs inside the store's worker thread only.
import type { Database, Statement } from "bun:sqlite";
import type { Tx, Value } from "./db.ts";
import { SqliteLog } from "./sqlite-log.ts";

/** Rows bound to one INSERT: more than halves the cost of a row against one by one. */
const ROWS_PER_INSERT = 16;

export class SqliteTx implements Tx {
  private readonly statements = new Map<string, Statement>();

  readonly log = new SqliteLog(this);

  constructor(private readonly db: Database) {}

  async all<Row>(sql: string, params: (Value | Value[])[] = []): Promise<Row[]> {
    const lists = params.some(Array.isArray);
    const statement = this.prepare(lists ? sql.replaceAll("IN (?)", "IN (SELECT value FROM json_each(?))") : sql);
    return statement.all(...params.map((p) => (Array.isArray(p) ? JSON.stringify(p) : p))) as Row[];
  }

  async run(sql: string, params: Value[] = []): Promise<{ changes: number; id: number }> {
    const { changes, lastInsertRowid } = this.prepare(sql).run(...params);
    return { changes, id: Number(lastInsertRowid) };
  }

  async find<Row>(table: string, columns: string[], by: string[], keys: Value[][]): Promise<Row[]> {
    const where = by.map((column) => `${column} = ?`).join(" AND ");
    const statement = this.prepare(`SELECT ${columns} FROM ${table} WHERE ${where}`);
    const found: Row[] = [];
    for (const key of keys) for (const row of statement.all(...key)) found.push(row as Row);
    return found;
  }

  async insert(table: string, columns: string[], rows: Value[][], onConflict?: "ignore"): Promise<void> {
    this.insertRows(
      `INSERT ${onConflict ? "OR IGNORE " : ""}INTO ${table} (${columns}) VALUES`,
      columns.length,
      rows,
      "",
    );
  }

  async raise(table: string, columns: string[], rows: Value[][]): Promise<void> {
    const value = columns.at(-1);
    const update = ` ON CONFLICT DO UPDATE SET ${value} = max(${value}, excluded.${value})`;
    this.insertRows(`INSERT INTO ${table} (${columns}) VALUES`, columns.length, rows, update);
  }

  /** `head` VALUES-rows `tail`, many rows to a statement; returns how many rows changed. */
  insertRows(head: string, width: number, rows: readonly Value[][], tail: string): number {
    const tuple = `(${Array(width).fill("?")})`;
    let at = 0;
    let changes = 0;
    if (rows.length >= ROWS_PER_INSERT) {
      const many = this.prepare(`${head} ${Array(ROWS_PER_INSERT).fill(tuple)}${tail}`);
      for (; at + ROWS_PER_INSERT <= rows.length; at += ROWS_PER_INSERT)
        changes += many.run(...rows.slice(at, at + ROWS_PER_INSERT).flat()).changes;
    }
    if (at === rows.length) return changes;
    const one = this.prepare(`${head} ${tuple}${tail}`);
    for (; at < rows.length; at++) changes += one.run(...rows[at]!).changes;
    return changes;
  }

  /** Statements are few and written in the source, so each is prepared once and kept. */
  prepare(sql: string): Statement {
    let statement = this.statements.get(sql);
    if (statement === undefined) {
      statement = this.db.prepare(sql);
      this.statements.set(sql, statement);
    }
    return statement;
  }
}
