// Tx for MySQL and MariaDB. Statements issued in one turn travel as one packet; a transaction begins with the first
// that writes or locks, so that pure reads need none.
import type { Head, Tx, Value } from "./db.ts";
import type { LogIds } from "./log-ids.ts";
import { DatabaseError, type MysqlConnection, type Result } from "./mysql-connection.ts";
import { MysqlLog } from "./mysql-log.ts";
import { columnList, compareKeys, literals, quoted, selects, statement, toObjects } from "./mysql-sql.ts";

/** How the transactions of a boot begin and end, so that those of a fenced boot have no effect. */
export interface TxGuard {
  /** The first statement; the transaction holds its row lock to the end. */
  opening: string;
  /** Throws where its result says that the boot is fenced. */
  check(result: Result): void;
  /** Makes the INSERT into the commit log; null where transactions of this kind may not append to logs. */
  closing: ((heads: Head[]) => string) | null;
}

export interface TxOptions {
  connection: MysqlConnection;
  guard: TxGuard;
  ids: LogIds;
  maxPacketBytes: number;
  /** performance.now(): a statement not answered by then ends the connection. */
  deadline: number;
  /** Look for repeated mids in advance, instead of meeting them as an error. */
  careful: boolean;
}

interface Pending {
  sql: string;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/** Statements per packet. */
const MAX_STATEMENTS = 200;

const ignore = (): void => undefined;

export class MysqlTx implements Tx {
  readonly log: MysqlLog;
  begun = false;
  private wrote = false;
  private opened: Promise<void> = Promise.resolve();
  /** Statements not sent yet. */
  private outbox: Pending[] = [];
  /** They are sent at the end of this turn. */
  private sending = false;
  /** Why a packet failed: with that the transaction has. */
  private failure: unknown = null;

  constructor(readonly options: TxOptions) {
    this.log = new MysqlLog(this);
  }

  async all<Row>(sql: string, params: (Value | Value[])[] = []): Promise<Row[]> {
    return toObjects(await this.read(statement(sql, params)));
  }

  async run(sql: string, params: (Value | Value[])[] = []): Promise<void> {
    this.write(statement(sql, params));
  }

  async create(table: string, columns: string[], row: Value[]): Promise<number> {
    this.wrote = true;
    const { id } = await this.inside(`INSERT INTO ${quoted(table)} (${columnList(columns)}) VALUES (${literals(row)})`);
    return id;
  }

  async find<Row>(table: string, columns: string[], by: string[], keys: Value[][]): Promise<Row[]> {
    const found = selects(quoted(table), columns, by, keys).map((sql) => this.read(sql));
    return (await Promise.all(found)).flatMap((result) => toObjects<Row>(result));
  }

  async lock<Row>(table: string, columns: string[], by: string[], keys: Value[][], onLocked?: "skip"): Promise<Row[]> {
    const mode = onLocked === "skip" ? "FOR UPDATE SKIP LOCKED" : "FOR UPDATE";
    const inOrder = [...keys].sort(compareKeys);
    const found = selects(quoted(table), columns, by, inOrder).map((sql) =>
      this.inside(`${sql} ORDER BY ${columnList(by)} ${mode}`),
    );
    return (await Promise.all(found)).flatMap((result) => toObjects<Row>(result));
  }

  async insert(table: string, columns: string[], rows: Value[][], onConflict?: "ignore"): Promise<void> {
    const head = `INSERT ${onConflict ? "IGNORE " : ""}INTO ${quoted(table)} (${columnList(columns)}) VALUES`;
    for (const sql of this.inserts(head, rows, "")) this.write(sql);
  }

  async raise(table: string, columns: string[], rows: Value[][]): Promise<void> {
    const head = `INSERT INTO ${quoted(table)} (${columnList(columns)}) VALUES`;
    const value = quoted(columns.at(-1)!);
    const tail = ` ON DUPLICATE KEY UPDATE ${value} = GREATEST(${value}, VALUES(${value}))`;
    const inOrder = [...rows].sort(compareKeys);
    for (const sql of this.inserts(head, inOrder, tail)) this.write(sql);
  }

  async alive(boots: string[]): Promise<Set<string>> {
    if (boots.length === 0) return new Set();
    const sql = "SELECT boot FROM instance WHERE boot IN (?)";
    return new Set((await this.all<{ boot: string }>(sql, [boots])).map(({ boot }) => boot));
  }

  /** Runs a statement that reads the newest committed rows, inside a transaction or not. */
  read(sql: string): Promise<Result> {
    return this.enqueue(sql);
  }

  /** Holds a statement back until one whose result is awaited, or COMMIT: their packet takes it along. */
  private write(sql: string): void {
    this.begin();
    this.wrote = true;
    this.outbox.push({ sql, resolve: ignore, reject: ignore });
  }

  /** Runs a statement inside the transaction, which begins with it if it has not begun. */
  async inside(sql: string): Promise<Result> {
    this.begin();
    const [result] = await Promise.all([this.enqueue(sql), this.opened]);
    return result;
  }

  private begin(): void {
    if (this.begun) return;
    this.begun = true;
    this.outbox.push({ sql: "START TRANSACTION", resolve: ignore, reject: ignore });
    this.opened = this.enqueue(this.options.guard.opening).then((result) => this.options.guard.check(result));
    // It is awaited by what follows: at the latest by `commit`.
    this.opened.catch(ignore);
  }

  /** Statements of `head`, tuples and `tail`, each small enough to share a packet. Throws where one row is too long. */
  inserts(head: string, rows: readonly Value[][], tail: string): string[] {
    const { maxPacketBytes } = this.options;
    const made: string[] = [];
    let tuples: string[] = [];
    let bytes = 0;
    for (const row of rows) {
      const tuple = `(${literals(row)})`;
      const size = Buffer.byteLength(tuple);
      if (size > maxPacketBytes - 4_096)
        throw new DatabaseError("ER_NET_PACKET_TOO_LARGE", 1153, "08S01", `a row is over max_allowed_packet (${size})`);
      if (tuples.length > 0 && bytes + size > maxPacketBytes / 4) {
        made.push(`${head} ${tuples.join(", ")}${tail}`);
        tuples = [];
        bytes = 0;
      }
      tuples.push(tuple);
      bytes += size;
    }
    if (tuples.length > 0) made.push(`${head} ${tuples.join(", ")}${tail}`);
    return made;
  }

  /** Commits. `sending` is called right before COMMIT is sent: from then on only the database knows the outcome. */
  async commit(sending: (heads: Head[]) => void): Promise<void> {
    const heads = this.log.heads();
    if (!this.wrote && heads.length === 0) return this.rollback();
    await this.opened;
    if (this.failure !== null) throw this.failure;
    const { connection, guard } = this.options;
    const last = [...this.outbox.map(({ sql }) => sql), ...this.log.flush()];
    if (guard.closing !== null) last.push(guard.closing(heads));
    else if (heads.length > 0) throw new Error("only transactions of a lane may append to logs");
    const packets = this.packets([...last, "COMMIT"], (sql) => sql);
    for (const packet of packets.slice(0, -1)) await connection.query(packet, this.leftMs());
    sending(heads);
    await connection.query(packets.at(-1)!, this.leftMs());
  }

  /** Rolls back, if the connection still exists. */
  async rollback(): Promise<void> {
    if (!this.begun || this.options.connection.lost !== null) return;
    await this.options.connection.query(["ROLLBACK"], this.leftMs());
  }

  private enqueue(sql: string): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    this.outbox.push({ sql, resolve, reject });
    if (!this.sending) queueMicrotask(() => this.send());
    this.sending = true;
    return promise;
  }

  private async send(): Promise<void> {
    const packets = this.packets(this.outbox, ({ sql }) => sql);
    this.outbox = [];
    this.sending = false;
    for (const packet of packets) {
      try {
        if (this.failure !== null) throw this.failure;
        const statements = packet.map(({ sql }) => sql);
        const results = await this.options.connection.query(statements, this.leftMs());
        for (const [i, { resolve }] of packet.entries()) resolve(results[i]!);
      } catch (error) {
        this.failure = error;
        for (const { reject } of packet) reject(error);
      }
    }
  }

  private packets<T>(all: T[], textOf: (each: T) => string): T[][] {
    const packets: T[][] = [[]];
    let length = 0;
    for (const each of all) {
      const size = Buffer.byteLength(textOf(each));
      const full = length + size > this.options.maxPacketBytes / 2 || packets.at(-1)!.length >= MAX_STATEMENTS;
      if (full && packets.at(-1)!.length > 0) {
        packets.push([]);
        length = 0;
      }
      packets.at(-1)!.push(each);
      length += size;
    }
    return packets;
  }

  private leftMs(): number {
    return this.options.deadline - performance.now();
  }
}
