// One connection to MySQL or MariaDB: packets of statements, each with a time limit. The only file that knows mysql2.
import { createConnection, escape as escapeValue, type FieldPacket, type Connection as Raw } from "mysql2";
import { StoreError, type Value } from "./db.ts";

export interface MysqlTarget {
  host: string;
  port: number;
  user: string;
  password: string;
  database: string;
  tls: boolean;
}

/** The server's report that it did not execute a statement. */
export class DatabaseError extends StoreError {
  constructor(
    /** As in "ER_DUP_ENTRY". */
    readonly code: string,
    readonly errno: number,
    readonly sqlState: string,
    message: string,
  ) {
    super(message);
  }
}

/** The connection is gone, or could not be made: whether what was under way has been executed is unknown. */
export class ConnectionLost extends StoreError {
  constructor(
    message: string,
    /** The system's or the server's code, such as "ECONNREFUSED". */
    readonly code = "",
  ) {
    super(message);
  }
}

export interface Result {
  columns: string[];
  rows: Value[][];
  /** Rows that the statement matched, whether or not it changed them. */
  changes: number;
  /** The first AUTO_INCREMENT value that an INSERT generated. */
  id: number;
}

/**
 * Errors after which the server closes the connection, or has (shutdown, killed, network), or is of no more use: it has
 * become a read-only replica, and the address may lead to the new primary.
 */
const FATAL = new Set([1053, 1077, 1079, 1152, 1153, 1158, 1159, 1160, 1161, 1290, 1792, 1836, 1927, 3169, 4031]);
/** Silence of this length is more than a network delay. */
const SILENCE_MS = 500;
/** How long the server has to end its side after our goodbye. */
const GOODBYE_MS = 1_000;
const BINARY_CHARSET = 63;
/** Rows of a stream that may wait for their reader. */
const ROWS_AHEAD = 1_000;
const BYTES = new Set([252, 253, 254]);

/** A value as an SQL literal, whatever it holds; relies on a sql_mode without NO_BACKSLASH_ESCAPES. */
export const literal = (value: Value): string => (typeof value === "number" ? String(value) : escapeValue(value));

export class MysqlConnection {
  /** The server's id of the connection, as KILL takes it. */
  readonly id: number;
  /** Why it can no longer be used; null while it can. */
  lost: ConnectionLost | null = null;
  /** Called once, when it is lost. */
  onLost: (() => void) | null = null;
  /** Called when it is given up because nothing has arrived since `since`, performance.now(). */
  onSilent: ((since: number) => void) | null = null;
  /** When the server last answered, performance.now(). */
  heardAt = performance.now();
  private readonly waiting = new Set<(error: ConnectionLost) => void>();

  private constructor(private readonly raw: Raw) {
    this.id = raw.threadId;
    const end = (error?: Error) =>
      this.fail(new ConnectionLost(error?.message ?? "the database closed the connection"));
    raw.on("error", end);
    raw.on("end", () => end());
  }

  /** Rejects with DatabaseError where the server refuses it, otherwise with ConnectionLost. */
  static open(target: MysqlTarget, timeoutMs: number): Promise<MysqlConnection> {
    const { tls, ...login } = target;
    const { promise, resolve, reject } = Promise.withResolvers<MysqlConnection>();
    const raw = createConnection({
      ...login,
      ...(tls ? { ssl: { verifyIdentity: true } } : {}),
      charset: "utf8mb4",
      multipleStatements: true,
      flags: ["-LOCAL_FILES", "-IGNORE_SPACE"],
      rowsAsArray: true,
      // Statements are complete: otherwise mysql2 would search them, texts included, for placeholders.
      queryFormat: (sql: string) => sql,
      connectTimeout: timeoutMs,
    });
    const late = setTimeout(() => fail({ message: `no answer for ${timeoutMs} ms`, code: "ETIMEDOUT" }), timeoutMs);
    const fail = (error: unknown) => {
      clearTimeout(late);
      destroyRaw(raw);
      reject(translate(error));
    };
    raw.on("error", fail);
    raw.connect((error) => {
      if (error !== null) return fail(error);
      clearTimeout(late);
      raw.off("error", fail);
      resolve(new MysqlConnection(raw));
    });
    return promise;
  }

  /**
   * Sends the statements as one packet and returns their results. If one fails, those after it are not run, and all of
   * it rejects with DatabaseError, or ConnectionLost (also where no answer comes in time, which ends the connection).
   */
  query(statements: string[], timeoutMs: number): Promise<Result[]> {
    if (this.lost !== null) return Promise.reject(this.lost);
    const { promise, resolve, reject } = Promise.withResolvers<Result[]>();
    const settle = (error: StoreError | null, results: Result[] = []) => {
      clearTimeout(late);
      this.waiting.delete(settle);
      if (error !== null) reject(error);
      else resolve(results);
    };
    this.waiting.add(settle);
    const limit = Math.max(1, timeoutMs);
    const sentAt = performance.now();
    const late = setTimeout(() => {
      if (limit >= SILENCE_MS) this.onSilent?.(sentAt);
      // The rest of an operation's time may be short, and then says nothing about the database.
      this.destroy(limit >= SILENCE_MS ? `no answer for ${Math.round(limit)} ms` : "no answer in time");
    }, limit);
    this.raw.query(statements.join(";\n"), (error, rows, fields) => {
      this.heardAt = performance.now();
      if (error !== null) {
        const known = translate(error);
        if (known instanceof ConnectionLost) this.fail(known);
        settle(known);
      } else if (statements.length === 1) settle(null, [toResult(rows, fields)]);
      else
        settle(
          null,
          (rows as unknown[]).map((each, i) => toResult(each, (fields as unknown as FieldPacket[][])[i])),
        );
    });
    return promise;
  }

  /** The rows of one SELECT, at the reader's pace. Rejects like `query`, also where no row comes for `timeoutMs`. */
  async *stream(sql: string, timeoutMs: number): AsyncGenerator<Value[]> {
    if (this.lost !== null) throw this.lost;
    const silent = () => this.destroy(`no answer for ${timeoutMs} ms`);
    const query = this.raw.query(sql);
    const rows = query.stream({ highWaterMark: ROWS_AHEAD });
    const onLost = (error: ConnectionLost) => rows.destroy(error);
    this.waiting.add(onLost);
    let late = setTimeout(silent, timeoutMs);
    try {
      for await (const row of rows) {
        clearTimeout(late);
        yield (row as unknown[]).map((value) => (value instanceof Buffer ? value.toString() : (value as Value)));
        late = setTimeout(silent, timeoutMs);
      }
    } catch (error) {
      throw error instanceof StoreError ? error : translate(error);
    } finally {
      clearTimeout(late);
      this.waiting.delete(onLost);
    }
  }

  /** Closes it in good order; to be called when nothing is under way. */
  close(): void {
    this.lost ??= new ConnectionLost("the connection is closed");
    this.raw.end(() => undefined);
    setTimeout(() => destroyRaw(this.raw), GOODBYE_MS).unref();
  }

  destroy(reason = "the connection is closed"): void {
    this.fail(new ConnectionLost(reason));
  }

  private fail(error: ConnectionLost): void {
    if (this.lost === null) {
      this.lost = error;
      destroyRaw(this.raw);
      this.onLost?.();
    }
    for (const settle of this.waiting) settle(error);
  }
}

/** mysql2 only ends the stream, whose descriptor then stays open until the other side ends too. */
function destroyRaw(raw: Raw): void {
  raw.destroy();
  (raw as Raw & { stream: { destroy(): void } }).stream.destroy();
}

function toResult(rows: unknown, fields: FieldPacket[] | undefined): Result {
  if (!Array.isArray(rows)) {
    const { affectedRows, insertId } = rows as { affectedRows: number; insertId: number };
    return { columns: [], rows: [], changes: affectedRows, id: insertId };
  }
  const table = rows as Value[][];
  for (const [i, { characterSet, columnType }] of (fields ?? []).entries())
    if (characterSet === BINARY_CHARSET && BYTES.has(columnType ?? 0))
      for (const row of table) if (row[i] !== null) row[i] = (row[i] as unknown as Buffer).toString();
  return { columns: (fields ?? []).map(({ name }) => name), rows: table, changes: 0, id: 0 };
}

function translate(error: unknown): DatabaseError | ConnectionLost {
  const { code = "", errno, sqlState, message } = error as Error & { code?: string; errno?: number; sqlState?: string };
  // The server's own errors have an SQL state and a positive number.
  const said = sqlState !== undefined && sqlState !== "" && errno !== undefined && errno > 0;
  if (said && !FATAL.has(errno)) return new DatabaseError(code, errno, sqlState, `${code}: ${message}`);
  return new ConnectionLost(message || code, code);
}
