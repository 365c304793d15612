// Bringing the schema up to date where something fails: it is told, the lock is let go, and no version is noted too early.
import { expect, test } from "bun:test";
import { DatabaseError, type MysqlConnection, type MysqlTarget } from "../../src/db/mysql-connection.ts";
import { migrate } from "../../src/db/mysql-migrate.ts";
import { StartError } from "../../src/start-error.ts";

const target = { host: "db", port: 3306, database: "chat" } as MysqlTarget;

/** Migrates an empty database, which answers GET_LOCK with `lock` and refuses what matches `refused`. */
async function run(lock: number, refused: RegExp, refusal: Error) {
  const sent: string[] = [];
  const query = async ([sql]: string[]) => {
    sent.push(sql!);
    if (refused.test(sql!)) throw refusal;
    const rows = sql!.includes("GET_LOCK") ? [[lock]] : sql!.startsWith("SELECT COALESCE") ? [[0]] : [];
    return [{ columns: [], rows, changes: 0, id: 0 }];
  };
  const connection = { query, lost: null } as unknown as MysqlConnection;
  const failure: unknown = await migrate(connection, target).catch((error) => error);
  return { failure, sent };
}

test("where another instance holds the lock for too long nothing is touched", async () => {
  const { failure, sent } = await run(0, /^$/, new Error());
  expect(failure).toEqual(new StartError("db:3306/chat: another instance has been changing the schema for 60 s"));
  expect(sent).toHaveLength(1);
});

test.each([
  ["a table", /CREATE TABLE IF NOT EXISTS lane/, 0],
  ["a column", /ALTER TABLE link/, 1],
  ["a version", /^INSERT INTO schema_version .*2/, 2],
])("where %s is refused the versions before it are noted, and the lock is let go", async (_, refused, versions) => {
  const refusal = new DatabaseError("ER_TABLEACCESS_DENIED_ERROR", 1142, "42000", "denied");
  const { failure, sent } = await run(1, refused, refusal);
  expect(failure).toBe(refusal);
  expect(sent.filter((sql) => sql.startsWith("INSERT INTO schema_version"))).toHaveLength(versions);
  expect(sent.at(-1)).toStartWith("SELECT RELEASE_LOCK");
});
