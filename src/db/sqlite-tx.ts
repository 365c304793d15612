// The embedded database's dialect of Tx, on bun:sqlite. Runs inside the store's worker thread only.
import type { Database, Statement } from "bun:sqlite";
import type { Tx, Value } from "./db.ts";
import { Folder } from "./sqlite-fold.ts";
import { SqliteLog } from "./sqlite-log.ts";

/** Rows per INSERT: halves the cost of a row, or better, compared with one by one. */
const ROWS_PER_INSERT = 16;

export class SqliteTx implements Tx {
  private readonly statements = new Map<string, Statement>();
  private readonly ofOne = new Map<string, Statement>();
  private readonly ofMany = new Map<string, Statement>();
  private readonly finders = new Map<string, Statement>();

  readonly log = new SqliteLog(this);
  readonly folder = new Folder(this, this.log);

  constructor(private readonly db: Database) {}

  async all<Row>(sql: string, params: (Value | Value[])[] = []): Promise<Row[]> {
    return this.bind(sql, params, (statement, values) => statement.all(...values) as Row[]);
  }

  async run(sql: string, params: (Value | Value[])[] = []): Promise<void> {
    this.bind(sql, params, (statement, values) => statement.run(...values));
  }

  async create(table: string, columns: string[], row: Value[]): Promise<number> {
    const insert = this.prepare(`INSERT INTO ${table} (${columns}) VALUES (${row.map(() => "?")})`);
    return Number(insert.run(...row).lastInsertRowid);
  }

  private bind<T>(sql: string, params: (Value | Value[])[], use: (statement: Statement, values: Value[]) => T): T {
    if (!params.some(Array.isArray)) return use(this.prepare(sql), params as Value[]);
    // Lists with a single value, the usual case, become "= ?".
    if (params.every((param) => !Array.isArray(param) || param.length === 1))
      return use(this.prepare(sql, this.ofOne, "= ?"), params.flat());
    const values = params.map((param) => (Array.isArray(param) ? JSON.stringify(param) : param));
    return use(this.prepare(sql, this.ofMany, "IN (SELECT value FROM json_each(?))"), values);
  }

  async find<Row>(table: string, columns: string[], by: string[], keys: Value[][]): Promise<Row[]> {
    const found: Row[] = [];
    for (let from = 0; from < keys.length; ) {
      const left = keys.length - from;
      const count = left >= 24 ? 64 : left >= 4 ? 16 : 1;
      const params: Value[] = [];
      // Missing keys are NULL, which equals nothing.
      for (let i = from; i < from + count; i++) for (let k = 0; k < by.length; k++) params.push(keys[i]?.[k] ?? null);
      for (const row of this.finder(table, columns, by, count).all(...params)) found.push(row as Row);
      from += count;
    }
    return found;
  }

  /** Needs no lock: nobody else writes to this database. */
  lock<Row>(table: string, columns: string[], by: string[], keys: Value[][]): Promise<Row[]> {
    return this.find(table, columns, by, keys);
  }

  async alive(): Promise<Set<string>> {
    return new Set();
  }

  /** A statement that looks up many keys: a fifth of the cost of one by one. */
  private finder(table: string, columns: string[], by: string[], count: number): Statement {
    const name = `${count} ${table} ${columns} ${by}`;
    let statement = this.finders.get(name);
    if (statement === undefined) {
      const key = `(${Array(by.length).fill("?")})`;
      statement = this.db.prepare(
        `WITH wanted(${by.map((_, i) => `k${i}`)}) AS (VALUES ${Array(count).fill(key)})
         SELECT ${columns} FROM wanted CROSS JOIN ${table} ON ${by.map((column, i) => `${column} = k${i}`).join(" AND ")}`,
      );
      this.finders.set(name, statement);
    }
    return statement;
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

  /** Runs `head` (up to VALUES), tuples, `tail`, with many rows per statement. */
  insertRows(head: string, width: number, rows: readonly Value[][], tail: string): void {
    const tuple = `(${Array(width).fill("?")})`;
    let at = 0;
    if (rows.length >= ROWS_PER_INSERT) {
      const many = this.prepare(`${head} ${Array(ROWS_PER_INSERT).fill(tuple)}${tail}`);
      for (; at + ROWS_PER_INSERT <= rows.length; at += ROWS_PER_INSERT)
        many.run(...rows.slice(at, at + ROWS_PER_INSERT).flat());
    }
    if (at === rows.length) return;
    const one = this.prepare(`${head} ${tuple}${tail}`);
    for (; at < rows.length; at++) one.run(...rows[at]!);
  }

  /** Statements are few and fixed, so each is prepared once and kept, by its text; `list` replaces "IN (?)". */
  prepare(sql: string, kept = this.statements, list = "IN (?)"): Statement {
    let statement = kept.get(sql);
    if (statement === undefined) {
      statement = this.db.prepare(sql.replaceAll("IN (?)", list));
      kept.set(sql, statement);
    }
    return statement;
  }

  /** Ends all statements: with any left, SQLite does not close the file. */
  finalize(): void {
    for (const kept of [this.statements, this.ofOne, this.ofMany, this.finders])
      for (const statement of kept.values()) statement.finalize();
  }
}
