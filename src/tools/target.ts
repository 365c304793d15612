// A MySQL database while a store is copied to it. The progress of the copy is kept in a table there, updated in the
// same transactions as the rows: it resumes exactly there, whatever ended it. No server accepts it before the end.
import type { Value } from "../db/db.ts";
import { ConnectionLost, literal, MysqlConnection, type MysqlTarget, type Result } from "../db/mysql-connection.ts";
import { createTables, UNFINISHED } from "../db/mysql-migrate.ts";
import { columnList, literals, quoted } from "../db/mysql-sql.ts";
import { describe, prepare, startErrorOf } from "../db/mysql-start.ts";
import { StartError } from "../start-error.ts";
import type { Key, SourceTable } from "./embedded.ts";
import { say } from "./progress.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const QUERY_TIMEOUT_MS = 600_000;
/** How long to wait for a database that is away. */
const PATIENCE_MS = 60_000;
const RETRY_MS = 500;
/** Time for the database to notice that a previous holder of the lock was killed. */
const LOCK_WAIT_S = 10;
const MAX_PACKET_BYTES = 1024 * 1024;
/** Room in a packet for what is not rows. */
const PACKET_RESERVE_BYTES = 8_192;

/** How far a table has been copied. */
export interface Place {
  key: Key | null;
  rows: number;
  complete: boolean;
}

export interface Sum {
  rows: number;
  /** The sum of the rows' CRC-32. */
  sum: number;
}

const emptyIt = ({ database }: MysqlTarget): string =>
  `DROP DATABASE ${quoted(database)}; CREATE DATABASE ${quoted(database)}`;

/** Throws StartError where the database is not empty, or not usable. */
export async function requireEmpty(target: MysqlTarget): Promise<void> {
  let connection: MysqlConnection | undefined;
  try {
    connection = await MysqlConnection.open(target, CONNECT_TIMEOUT_MS);
    await prepare(connection, CONNECT_TIMEOUT_MS);
    const [tables] = await connection.query(["SHOW TABLES"], QUERY_TIMEOUT_MS);
    if (tables!.rows.length > 0) throw notEmpty(target);
  } catch (error) {
    throw startErrorOf(error, target, "--to");
  } finally {
    connection?.destroy();
  }
}

const notEmpty = (target: MysqlTarget): StartError =>
  new StartError(`${describe(target)} is not empty: give --to an empty database`);

export class CopyTarget {
  private connection!: MysqlConnection;
  private packetBytes = MAX_PACKET_BYTES;
  private schemaVersion = 0;
  /** The whole copy has been completed. */
  finished = false;

  private constructor(
    private readonly target: MysqlTarget,
    private readonly stamp: string,
  ) {}

  /** Creates the tables, or finds those of this copy. Throws StartError where the database is in other use. */
  static async open(target: MysqlTarget, stamp: string): Promise<CopyTarget> {
    const made = new CopyTarget(target, stamp);
    await made.connect();
    return made;
  }

  private async connect(): Promise<void> {
    const old = this.connection?.id;
    this.connection = await MysqlConnection.open(this.target, CONNECT_TIMEOUT_MS);
    const { maxPacketBytes } = await prepare(this.connection, CONNECT_TIMEOUT_MS);
    this.packetBytes = maxPacketBytes;
    // Our previous connection may still exist at the server, holding the lock and a transaction.
    if (old !== undefined) await this.query(`KILL ${old}`).catch(() => undefined);
    const name = `CONCAT('chatserver-copy:', MD5(${literal(this.target.database)}))`;
    const [[locked]] = (await this.query(`SELECT GET_LOCK(${name}, ${LOCK_WAIT_S})`)).rows as [[number]];
    if (locked !== 1) throw new StartError(`another copy to ${describe(this.target)} is running: wait until it ends`);
    await this.claim();
  }

  private async claim(): Promise<void> {
    const tables = (await this.query("SHOW TABLES")).rows.map(([name]) => name);
    if (!tables.includes(UNFINISHED)) {
      // Only the answer to the very last statement was lost.
      if (this.finished) return;
      if (tables.length > 0) throw notEmpty(this.target);
      await this.query(
        `CREATE TABLE ${UNFINISHED} (name VARBINARY(64) NOT NULL PRIMARY KEY, place VARBINARY(2048) NOT NULL,
         done BIGINT NOT NULL DEFAULT 0, complete TINYINT NOT NULL DEFAULT 0) ENGINE = InnoDB`,
      );
    }
    await this.query(`INSERT IGNORE INTO ${UNFINISHED} (name, place) VALUES ('', ${literal(this.stamp)})`);
    const [[stamp]] = (await this.query(`SELECT place FROM ${UNFINISHED} WHERE name = ''`)).rows as [[string]];
    if (stamp !== this.stamp)
      throw new StartError(
        `${describe(this.target)} holds an unfinished copy of another store, or of this one before it was served again:` +
          ` empty it (${emptyIt(this.target)})`,
      );
    this.finished = tables.includes("schema_version");
    if (!this.finished) this.schemaVersion = await createTables(this.connection);
  }

  /** Connects again. Throws StartError where the database does not come back. */
  async reconnect(cause: ConnectionLost): Promise<void> {
    say(`the database at ${describe(this.target)} is unreachable (${cause.message}): trying again`);
    for (const end = performance.now() + PATIENCE_MS; ; ) {
      try {
        return await this.connect();
      } catch (error) {
        this.connection.destroy();
        if (!(error instanceof ConnectionLost)) throw error;
        if (performance.now() > end)
          throw new StartError(
            `the database at ${describe(this.target)} is unreachable (${error.message}): run the same command again to resume`,
          );
        await Bun.sleep(RETRY_MS);
      }
    }
  }

  async placeOf(table: SourceTable): Promise<Place> {
    const sql = `SELECT place, done, complete FROM ${UNFINISHED} WHERE name = ${literal(table.name)}`;
    const [row] = (await this.query(sql)).rows as [string, number, number][];
    if (row === undefined) return { key: null, rows: 0, complete: false };
    return { key: JSON.parse(row[0]), rows: row[1], complete: row[2] === 1 };
  }

  /** Stores rows that follow `place`, and advances it. If it rejects, the place in the database says what is stored. */
  async append(table: SourceTable, rows: Value[][], place: Place): Promise<void> {
    const head = `INSERT INTO ${quoted(table.name)} (${columnList(table.columns.map(({ name }) => name))}) VALUES`;
    let tuples: string[] = [];
    let bytes = 0;
    const enough = Math.min(MAX_PACKET_BYTES, this.packetBytes / 4);
    for (const [i, row] of rows.entries()) {
      const tuple = `(${literals(row)})`;
      tuples.push(tuple);
      bytes += Buffer.byteLength(tuple);
      const following = rows[i + 1];
      if (following !== undefined && bytes + sizeOf(following) < enough) continue;
      place.key = row.slice(0, table.keyLength);
      place.rows += tuples.length;
      await this.transact([`${head} ${tuples.join(", ")}`, this.moveOn(table, place)], bytes + PACKET_RESERVE_BYTES);
      tuples = [];
      bytes = 0;
    }
  }

  /** The table is copied completely: new ids will follow those already assigned. */
  async complete(table: SourceTable, place: Place): Promise<void> {
    if (table.lastId !== null)
      await this.query(`ALTER TABLE ${quoted(table.name)} AUTO_INCREMENT = ${table.lastId + 1}`);
    place.complete = true;
    await this.query(this.moveOn(table, place));
  }

  /** Count and checksum of the rows with keys above `after` up to `upTo`; null: no limit. */
  async sumOf(table: SourceTable, after: Key | null, upTo: Key | null): Promise<Sum> {
    const by = table.columns.slice(0, table.keyLength).map(({ name }) => quoted(name));
    const range = [
      after === null ? "TRUE" : beyond(by, ">", after, ">"),
      upTo === null ? "TRUE" : beyond(by, "<", upTo, "<="),
    ];
    const values = table.columns.map(
      ({ name, text }) => `IFNULL(${text ? `CRC32(${quoted(name)})` : quoted(name)}, '')`,
    );
    const sum = `COUNT(*), COALESCE(SUM(CRC32(CONCAT_WS(',', ${values.join(", ")}))), 0)`;
    const sql = `SELECT ${sum} FROM ${quoted(table.name)} WHERE ${range.join(" AND ")}`;
    const [[rows, total]] = (await this.query(sql)).rows as [[number, string]];
    return { rows, sum: Number(total) };
  }

  /** Hands the database over to servers in one step, which gives it their schema version. */
  async finish(): Promise<void> {
    if (!this.finished) {
      const versions = Array.from({ length: this.schemaVersion }, (_, i) => `(${i + 1})`);
      await this.query(
        "CREATE TABLE IF NOT EXISTS unfinished_version (version INT NOT NULL PRIMARY KEY) ENGINE = InnoDB",
      );
      await this.query(`INSERT IGNORE INTO unfinished_version (version) VALUES ${versions}`);
      await this.query("RENAME TABLE unfinished_version TO schema_version");
      this.finished = true;
    }
    await this.query(`DROP TABLE IF EXISTS ${UNFINISHED}`);
  }

  close(): void {
    this.connection.destroy();
  }

  private moveOn({ name }: SourceTable, { key, rows, complete }: Place): string {
    const values = literals([name, JSON.stringify(key), rows, complete ? 1 : 0]);
    return `REPLACE INTO ${UNFINISHED} (name, place, done, complete) VALUES (${values})`;
  }

  private async transact(statements: string[], bytes: number): Promise<void> {
    if (bytes > this.packetBytes)
      throw new StartError(
        `${describe(this.target)} does not accept packets of ${bytes} bytes, which one of the messages needs:` +
          " raise max_allowed_packet and run the same command again",
      );
    try {
      await this.connection.query(["START TRANSACTION", ...statements, "COMMIT"], QUERY_TIMEOUT_MS);
    } catch (error) {
      // Ends an open transaction, which must not stay.
      this.connection.destroy();
      throw error;
    }
  }

  private async query(sql: string): Promise<Result> {
    return (await this.connection.query([sql], QUERY_TIMEOUT_MS))[0]!;
  }
}

/** An upper bound for a row's size in a statement. */
const sizeOf = (row: Value[]): number => row.reduce<number>((sum, value) => sum + 2 * String(value).length + 24, 0);

/** Compares the columns `by` with a key, in a form that both databases turn into a range of the index. */
function beyond(by: string[], less: string, key: Key, last: string): string {
  const parts = by.map((column, i) => {
    const equal = by.slice(0, i).map((each, k) => `${each} = ${literal(key[k]!)}`);
    return [...equal, `${column} ${i === by.length - 1 ? last : less} ${literal(key[i]!)}`].join(" AND ");
  });
  return `(${parts.join(" OR ")})`;
}
