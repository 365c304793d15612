// Brings the schema up to date, under a lock of the database, so that instances may start at the same time.
import initial from "../../sql/mysql/0001-initial.sql" with { type: "text" };
import linkStarted from "../../sql/mysql/0002-link-started.sql" with { type: "text" };
import linkSeenBy from "../../sql/mysql/0003-link-seen-by.sql" with { type: "text" };
import deviceTimes from "../../sql/mysql/0004-device-times.sql" with { type: "text" };
import { StartError } from "../start-error.ts";
import { DatabaseError, literal, type MysqlConnection, type MysqlTarget, type Result } from "./mysql-connection.ts";
import { describe } from "./mysql-start.ts";

/** In order, numbered from 1; `schema_version` holds the numbers of those applied to a database. */
const MIGRATIONS: string[] = [initial, linkStarted, linkSeenBy, deviceTimes];

/** Allows for altering a large table. */
const STATEMENT_TIMEOUT_MS = 3_600_000;
const LOCK_WAIT_S = 60;
const DUPLICATE_COLUMN = 1060;

/** A table that exists while a store is being copied to a database, which gets its `schema_version` only at the end. */
export const UNFINISHED = "unfinished_copy";

/** Creates the tables of the newest schema, except `schema_version`; existing ones stay. Returns its version. */
export async function createTables(connection: MysqlConnection): Promise<number> {
  for (const text of MIGRATIONS) for (const sql of statementsOf(text)) await apply(connection, sql);
  return MIGRATIONS.length;
}

/** Throws StartError where the database is not ours to use, and DatabaseError. */
export async function migrate(connection: MysqlConnection, target: MysqlTarget): Promise<void> {
  const query = (sql: string) => queryOne(connection, sql);
  // Lock names are shared by the whole server, and of limited length.
  const name = `CONCAT('chatserver:', MD5(${literal(target.database)}))`;
  if ((await query(`SELECT GET_LOCK(${name}, ${LOCK_WAIT_S})`)).rows[0]![0] !== 1)
    throw new StartError(`${describe(target)}: another instance has been changing the schema for ${LOCK_WAIT_S} s`);
  try {
    const tables = (await query("SHOW TABLES")).rows.map(([table]) => table);
    if (!tables.includes("schema_version")) {
      if (tables.includes(UNFINISHED))
        throw new StartError(
          `${describe(target)} holds an incomplete copy: finish it first by running the same ChatServer copy again`,
        );
      if (tables.length > 0)
        throw new StartError(`${describe(target)} is another program's database: give --mysql an empty one`);
      await query("CREATE TABLE schema_version (version INT NOT NULL PRIMARY KEY) ENGINE = InnoDB");
    }
    const [[seen]] = (await query("SELECT COALESCE(MAX(version), 0) FROM schema_version")).rows as [[number]];
    if (seen > MIGRATIONS.length)
      throw new StartError(`${describe(target)} is used by a newer ChatServer (schema ${seen}): run that version`);
    for (let version = seen; version < MIGRATIONS.length; version++) {
      // Each statement commits by itself: an interrupted migration is run again from its start.
      for (const sql of statementsOf(MIGRATIONS[version]!)) await apply(connection, sql);
      await query(`INSERT INTO schema_version (version) VALUES (${version + 1})`);
    }
  } finally {
    await query(`SELECT RELEASE_LOCK(${name})`);
  }
}

async function queryOne(connection: MysqlConnection, sql: string): Promise<Result> {
  return (await connection.query([sql], STATEMENT_TIMEOUT_MS))[0]!;
}

/** Runs a migration's statement, which may have been run before: MySQL has no ADD COLUMN IF NOT EXISTS. */
async function apply(connection: MysqlConnection, sql: string): Promise<void> {
  await queryOne(connection, sql).catch((error) => {
    if (!(error instanceof DatabaseError && error.errno === DUPLICATE_COLUMN)) throw error;
  });
}

const statementsOf = (text: string): string[] =>
  text
    .replaceAll(/--.*$/gm, "")
    .split(/;\s*$/m)
    .filter((sql) => sql !== "");
