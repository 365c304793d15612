// The database of the C++ chat server as found: spelling, order and presence of tables and columns vary.
import type { Value } from "../db/db.ts";
import { MysqlConnection, type MysqlTarget, type Result } from "../db/mysql-connection.ts";
import { quoted } from "../db/mysql-sql.ts";
import { describe, SET_CHARSET } from "../db/mysql-start.ts";
import { StartError } from "../start-error.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const QUERY_TIMEOUT_MS = 600_000;
const USERS_PER_PAGE = 256;

/** The columns read from each table. */
const TABLES: Record<string, { columns: string[]; texts: string[] }> = {
  user: { columns: ["id", "name", "password"], texts: ["name", "password"] },
  friend: { columns: ["userid", "friendid"], texts: [] },
  allgroup: { columns: ["id", "groupname", "groupdesc"], texts: ["groupname", "groupdesc"] },
  groupuser: { columns: ["groupid", "userid", "grouprole"], texts: [] },
  offlinemessage: { columns: ["userid", "message"], texts: ["message"] },
};
type TableName = "user" | "friend" | "allgroup" | "groupuser" | "offlinemessage";

export class Predecessor {
  /** SELECT … FROM …, by table. */
  private readonly selects = new Map<string, string>();
  /** ORDER BY for offlinemessage, if it has a column for that. */
  private offlineOrder = "";
  private userId = "";

  private constructor(
    private readonly connection: MysqlConnection,
    /** The charset for which texts, really UTF-8, were mistaken; null: texts are what they seem. */
    private readonly charset: string | null,
  ) {}

  /** Throws StartError where it is not such a database, and the database's errors. */
  static async open(target: MysqlTarget, charset: string | null): Promise<Predecessor> {
    const connection = await MysqlConnection.open(target, CONNECT_TIMEOUT_MS);
    try {
      await connection.query([SET_CHARSET, "SET SESSION wait_timeout = 28800"], CONNECT_TIMEOUT_MS);
      const found = new Predecessor(connection, charset);
      await found.findTables(target);
      return found;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  has(table: TableName): boolean {
    return this.selects.has(table);
  }

  async count(table: TableName): Promise<number> {
    const from = this.selects.get(table);
    if (from === undefined) return 0;
    return (await this.query(`SELECT COUNT(*) ${from.slice(from.lastIndexOf(" FROM "))}`)).rows[0]![0] as number;
  }

  /** All users by ascending id; in pages, because hashing takes longer than the database waits for its reader. */
  async *users(): AsyncGenerator<Value[][]> {
    // As text, because 64-bit integers may exceed what a JavaScript number holds.
    const key = `CAST(${this.userId} AS CHAR)`;
    const select = this.selects.get("user")!.replace("SELECT ", `SELECT ${key}, `);
    for (let last = ""; ; ) {
      const above = last === "" ? `${this.userId} IS NOT NULL` : `${this.userId} > ${last}`;
      const { rows } = await this.query(`${select} WHERE ${above} ORDER BY ${this.userId} LIMIT ${USERS_PER_PAGE}`);
      if (rows.length === 0) return;
      last = String(rows.at(-1)![0]);
      if (!/^-?\d+$/.test(last)) throw new StartError(`table user has an id that is not a whole number (${last})`);
      yield rows.map(([, ...row]) => row);
    }
  }

  /** The rows of a table, in the order they were stored as far as that is known; none where it is missing. */
  async *rows(table: Exclude<TableName, "user">): AsyncGenerator<Value[]> {
    const select = this.selects.get(table);
    if (select === undefined) return;
    yield* this.connection.stream(select + (table === "offlinemessage" ? this.offlineOrder : ""), QUERY_TIMEOUT_MS);
  }

  close(): void {
    this.connection.destroy();
  }

  private async findTables(target: MysqlTarget): Promise<void> {
    const names = (await this.query("SHOW TABLES")).rows.map(([name]) => String(name));
    for (const [table, { columns, texts }] of Object.entries(TABLES)) {
      const name = names.find((each) => each.toLowerCase() === table);
      if (name === undefined) continue;
      const there = (await this.query(`SHOW COLUMNS FROM ${quoted(name)}`)).rows.map(([column]) => String(column));
      const found = columns.map((column) => {
        const actual = there.find((each) => each.toLowerCase() === column);
        if (actual !== undefined) return quoted(actual);
        throw new StartError(
          `table ${name} of ${describe(target)} has no column ${column}: --from is not a database of the C++ chat server`,
        );
      });
      const read = found.map((column, i) => (texts.includes(columns[i]!) ? this.decoded(column) : column));
      this.selects.set(table, `SELECT ${read.join(", ")} FROM ${quoted(name)}`);
      if (table === "user") this.userId = found[0]!;
      const order = there.find((each) => each.toLowerCase() === "id");
      if (table === "offlinemessage" && order !== undefined) this.offlineOrder = ` ORDER BY ${quoted(order)}`;
    }
    if (!this.has("user"))
      throw new StartError(`${describe(target)} has no table user: --from is not a database of the C++ chat server`);
  }

  /** An expression for the bytes that the client sent, which are UTF-8. */
  private decoded(column: string): string {
    return this.charset === null ? column : `CAST(CONVERT(${column} USING ${this.charset}) AS BINARY)`;
  }

  private async query(sql: string): Promise<Result> {
    return (await this.connection.query([sql], QUERY_TIMEOUT_MS))[0]!;
  }
}
