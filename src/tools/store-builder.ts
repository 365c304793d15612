// An embedded store being built, in one thread: rows are inserted in transactions, and its log is folded at the end.
import { join } from "node:path";
import type { Value } from "../db/db.ts";
import type { Series } from "../db/series.ts";
import { openDatabase } from "../db/sqlite-migrate.ts";
import { SqliteTx } from "../db/sqlite-tx.ts";

const BATCH_ROWS = 1_000;

export class StoreBuilder {
  readonly tx: SqliteTx;
  private readonly db;

  /** Creates the store `file`; temporary tables go into the schema `scratch`, in a file beside it. */
  constructor(file: string) {
    this.db = openDatabase(file);
    this.tx = new SqliteTx(this.db);
    this.db.run("PRAGMA temp_store = FILE");
    this.db.run(`ATTACH '${join(file, "..", "scratch.db").replaceAll("'", "''")}' AS scratch`);
  }

  run(sql: string): void {
    this.db.run(sql);
  }

  /** Runs `work` in one transaction. */
  async transact(work: () => Promise<unknown>): Promise<void> {
    this.db.run("BEGIN IMMEDIATE");
    await work();
    this.tx.log.record();
    this.db.run("COMMIT");
    this.tx.log.committed();
    if (this.tx.folder.due) this.fold();
  }

  /** Stores rows in transactions of bounded size. `store` gets what `keep` returns for them; null: skipped. */
  async fill<Row>(
    rows: AsyncIterable<Row>,
    keep: (row: Row) => Value[] | null,
    store: (rows: Value[][]) => Promise<unknown>,
  ): Promise<void> {
    let batch: Value[][] = [];
    const flush = async () => {
      const full = batch;
      batch = [];
      if (full.length > 0) await this.transact(() => store(full));
    };
    for await (const row of rows) {
      const kept = keep(row);
      if (kept !== null && batch.push(kept) === BATCH_ROWS) await flush();
    }
    await flush();
  }

  async append(all: Series[]): Promise<void> {
    await this.transact(() => this.tx.log.append(all));
  }

  count(sql: string): number {
    return this.db.query(sql).values()[0]![0] as number;
  }

  /** Folds the rest and closes the file. */
  finish(): void {
    while (this.tx.folder.pending) this.fold();
    this.db.run("DETACH scratch");
    this.db.run("PRAGMA wal_checkpoint(TRUNCATE)");
    this.close();
  }

  close(): void {
    this.db.close();
  }

  private fold(): void {
    this.db.run("BEGIN IMMEDIATE");
    this.tx.folder.fold();
    this.db.run("COMMIT");
    this.tx.folder.committed();
  }
}
