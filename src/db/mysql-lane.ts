// A lane: transactions that append to logs, one after the other, each with the next batch number. By that number it is
// settled whether a transaction whose answer was lost has been committed.
import { type Head, StoreError } from "./db.ts";
import type { LogIds } from "./log-ids.ts";
import { ConnectionLost, DatabaseError, literal, type MysqlConnection, type Result } from "./mysql-connection.ts";
import { isTransient, isUndone, pauseMs, undo } from "./mysql-errors.ts";
import type { Connector } from "./mysql-pool.ts";
import { MysqlTx, type TxGuard } from "./mysql-tx.ts";

/** The boot has lost its lease: others have taken it over, and nothing it still does takes effect. */
export class Fenced extends StoreError {}

/** What the lanes of one boot share. */
export interface LaneOptions {
  boot: string;
  connector: Connector;
  ids: LogIds;
  /** Registers a new connection as this boot's. */
  register(connection: MysqlConnection): Promise<void>;
  /** Called when the boot is found fenced. */
  onFenced(): void;
  /** Called with the heads of a committed batch whose caller had been told that it is not known to be stored. */
  onLate(heads: Head[]): void;
}

/** Attempts per transaction while failures are transient; only locks held for seconds exhaust them. */
const MAX_ATTEMPTS = 10;
/** Used while finding out how a lost transaction ended. */
const SETTLE_LOCK_WAIT_S = 1;
const LOCK_WAIT_S = 3;
const LOCK_WAIT_TIMEOUT = 1205;

export class Lane {
  /** The last batch known to be committed. */
  batch = 0;
  private connection: MysqlConnection | null = null;
  /** Id of the previous connection, which may still hold this lane's row lock; 0: none. */
  private lostId = 0;
  /** Heads of the next batch, which may have been committed; null: there is no such doubt. */
  private unsure: Head[] | null = null;
  private closed = false;
  private readonly key: string;

  constructor(
    private readonly options: LaneOptions,
    private readonly lane: number,
  ) {
    this.key = `boot = ${literal(options.boot)} AND lane = ${lane}`;
  }

  /**
   * Commits what `work` does as the next batch; repeats it after transient failures, until `deadline`. Rejects with
   * what `work` throws, or StoreError. To be called by one caller at a time.
   */
  async transact<T>(work: (tx: MysqlTx) => Promise<T>, deadline: number): Promise<T> {
    let careful = false;
    for (let attempt = 1; ; attempt++) {
      let tx: MysqlTx | null = null;
      let sent: Head[] | null = null;
      let value: T | undefined;
      try {
        const connection = await this.ready(deadline);
        const { connector, ids } = this.options;
        const { maxPacketBytes } = connector;
        tx = new MysqlTx({ connection, guard: this.guard(), ids, maxPacketBytes, deadline, careful });
        value = await work(tx);
        await tx.commit((heads) => {
          sent = heads;
        });
        if (sent !== null) this.batch++;
        // The lost connection no longer holds the lane's row; its id may be given to somebody else.
        this.lostId = 0;
        return value;
      } catch (error) {
        if (sent !== null && !isUndone(error)) {
          this.unsure = sent;
          if (await this.settle(deadline)) return value as T;
        } else if (tx !== null) await undo(tx);
        if (error instanceof Fenced) this.options.onFenced();
        if (!isTransient(error) || attempt >= MAX_ATTEMPTS || performance.now() >= deadline) throw error;
        careful = true;
        if (error instanceof DatabaseError && error.errno === LOCK_WAIT_TIMEOUT) await this.killLost(deadline);
        const pause = pauseMs(error);
        if (pause > 0) await Bun.sleep(pause);
      }
    }
  }

  /** Whether the batch after `batch` may have been committed. */
  get isUnsure(): boolean {
    return this.unsure !== null;
  }

  /** Ends the lane, and with it what is under way. */
  close(): void {
    this.closed = true;
    if (this.connection?.lost === null) this.connection.destroy();
  }

  private guard(): TxGuard {
    const next = this.batch + 1;
    const values = `${literal(this.options.boot)}, ${this.lane}, ${next}, UTC_TIMESTAMP()`;
    return {
      opening: `UPDATE lane SET batch = ${next} WHERE ${this.key} AND batch = ${this.batch} AND fenced = 0`,
      check: ({ changes }: Result) => {
        if (changes !== 1) throw new Fenced("this instance has lost its lease");
      },
      closing: (heads) =>
        `INSERT INTO commit_log (boot, lane, batch, at, heads) VALUES (${values}, ${literal(JSON.stringify(heads))})`,
    };
  }

  /** Returns a connection, after settling an unsure batch. */
  private async ready(deadline: number): Promise<MysqlConnection> {
    const late = this.unsure;
    if (late !== null && (await this.settle(deadline))) this.options.onLate(late);
    return this.connect(deadline);
  }

  /** Returns the lane's connection, opening a new one if necessary. */
  async connect(deadline: number): Promise<MysqlConnection> {
    if (this.closed) throw new Fenced("this instance has lost its lease");
    if (this.connection !== null && this.options.connector.isGood(this.connection)) return this.connection;
    this.lostId = this.connection?.id ?? this.lostId;
    this.connection = null;
    this.connection = await this.options.connector.open(deadline, this.options.register);
    if (this.closed) this.connection.destroy();
    return this.connection;
  }

  /** Whether the unsure batch was committed: its transaction has ended once the lane's row can be locked. */
  private async settle(deadline: number): Promise<boolean> {
    for (;;) {
      const connection = await this.connect(deadline);
      try {
        const [, , found] = await connection.query(
          [
            // If the connection has survived the error, it must not see its own transaction.
            "ROLLBACK",
            `SET SESSION innodb_lock_wait_timeout = ${SETTLE_LOCK_WAIT_S}`,
            `SELECT batch FROM lane WHERE ${this.key} FOR UPDATE`,
            `SET SESSION innodb_lock_wait_timeout = ${LOCK_WAIT_S}`,
          ],
          deadline - performance.now(),
        );
        const row = found!.rows[0];
        if (row === undefined) throw new Fenced("this instance has lost its lease");
        const committed = row[0] === this.batch + 1;
        if (committed) this.batch++;
        this.unsure = null;
        return committed;
      } catch (error) {
        if (error instanceof Fenced) {
          this.options.onFenced();
          throw error;
        }
        const waited = error instanceof DatabaseError && error.errno === LOCK_WAIT_TIMEOUT;
        if (!waited && !(error instanceof ConnectionLost)) throw error;
        if (waited) await this.killLost(deadline);
      }
    }
  }

  /** Ends the previous connection's transaction, if the database has not noticed that the connection is lost. */
  private async killLost(deadline: number): Promise<void> {
    if (this.lostId === 0 || this.connection === null) return;
    await this.connection.query([`KILL ${this.lostId}`], deadline - performance.now()).catch(() => undefined);
  }
}
