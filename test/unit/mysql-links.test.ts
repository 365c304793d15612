// Which connections count as a boot's: those of this run of the database, and in whose view they show.
import { expect, test } from "bun:test";
import type { MysqlConnection, Result } from "../../src/db/mysql-connection.ts";
import { readLinks, registerLink } from "../../src/db/mysql-links.ts";

const resultOf = (...rows: Result["rows"]): Result => ({ columns: [], rows, changes: 0, id: 0 });

/** A database whose clock shows `time`, and which has run for `uptime`. */
function begin(time: number | string, uptime: string, links: Result["rows"] = []) {
  const sent: string[] = [];
  const query = async (statements: string[]) => {
    sent.push(...statements);
    return statements.map((sql) => {
      if (sql.startsWith("SELECT CONNECTION_ID")) return resultOf([7, "me@% db 3306"]);
      if (sql.startsWith("SELECT UNIX_TIMESTAMP")) return resultOf([time]);
      return sql.startsWith("SELECT conn_id") ? resultOf(...links) : resultOf(["Uptime", uptime]);
    });
  };
  return { sent, query };
}

test.each([
  ["one connection as it is known to the database", 7, 1_000_000, "400", "(7, 'boot', 999600, 'me@% db 3306')"],
  ["one that a proxy numbers, in no view", 8, 1_000_000, "400", "(8, 'boot', 999600, '')"],
  ["one where the clock has a fraction", 7, "1000000.75", "400", "(7, 'boot', 999600, 'me@% db 3306')"],
  ["one where the clock is before the start", 7, 300, "400", "(7, 'boot', 0, 'me@% db 3306')"],
])("%s is registered", async (_, id, time, uptime, values) => {
  const { sent, query } = begin(time, uptime);
  await registerLink({ id, query } as unknown as MysqlConnection, "boot");
  expect(sent.at(-1)).toContain(`VALUES ${values} ON DUPLICATE KEY UPDATE`);
});

test("where one cannot be registered that is told", async () => {
  const { query } = begin(1_000_000, "400");
  const refusal = new Error("refused");
  const refusing = (statements: string[]) =>
    statements[0]!.startsWith("INSERT") ? Promise.reject(refusal) : query(statements);
  await expect(registerLink({ id: 7, query: refusing } as unknown as MysqlConnection, "b")).rejects.toBe(refusal);
});

test("those of another run of the database are not read; those of an unknown one are", async () => {
  const links = [0, 997, 998, 1_000, 1_002, 1_003].map((started, i) => [i, "me", started]);
  const read = async (time: number, uptime: string) => (await readLinks(begin(time, uptime, links).query, "b")).links;
  expect((await read(1_500, "500")).map(({ id }) => id)).toEqual([0, 2, 3, 4]);
  expect((await read(1_500, "1500")).map(({ id }) => id)).toEqual([0, 1, 2, 3, 4, 5]);
});
