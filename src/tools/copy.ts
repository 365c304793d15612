// `ChatServer copy`: copies an embedded store's file, with ids, seqs and secrets, to a shared database, and compares.
import type { Value } from "../db/db.ts";
import { ConnectionLost, type MysqlTarget } from "../db/mysql-connection.ts";
import { describe, startErrorOf } from "../db/mysql-start.ts";
import { restore } from "../db/sqlite-migrate.ts";
import { fileErrorOf } from "../db/sqlite-read.ts";
import { StartError } from "../start-error.ts";
import { type Key, openSource, type Source, type SourceTable } from "./embedded.ts";
import { grouped, Progress, say } from "./progress.ts";
import { CopyTarget } from "./target.ts";

/**
 * Copies the store `file` to the empty database `target`, or continues a copy that was interrupted. The file is not
 * changed. Throws StartError; then no server accepts the database.
 */
export async function copyStore(file: string, target: MysqlTarget): Promise<void> {
  const source = openSource(file);
  try {
    await copyTo(source, file, target);
  } catch (error) {
    const known = fileErrorOf(file, error);
    throw known instanceof StartError ? known : startErrorOf(known, target, "--to");
  } finally {
    source.close();
  }
}

async function copyTo(source: Source, file: string, target: MysqlTarget): Promise<void> {
  const copy = await CopyTarget.open(target, source.stamp);
  try {
    if (!copy.finished) {
      for (const table of source.tables) await copyTable(copy, table);
      say("everything is copied; comparing");
      for (const table of source.tables) await compareTable(copy, table, file, target);
    }
    await steadily(copy, () => copy.finish());
  } finally {
    copy.close();
  }
  say(`${describe(target)} now holds all of ${file}: start the servers with --mysql instead of --data`);
}

async function copyTable(copy: CopyTarget, table: SourceTable): Promise<void> {
  await steadily(copy, async () => {
    const place = await copy.placeOf(table);
    if (place.complete) return;
    const progress = new Progress(table.name, table.count, place.rows);
    for await (const rows of table.pages(place.key)) {
      await copy.append(table, rows, place);
      progress.advance(rows.length);
    }
    await copy.complete(table, place);
    progress.end(`${grouped(place.rows)} copied`);
  });
}

/** Throws StartError where the database's rows differ from the file's. */
async function compareTable(copy: CopyTarget, table: SourceTable, file: string, target: MysqlTarget): Promise<void> {
  const differs = (where: string) =>
    new StartError(
      `table ${table.name} of ${describe(target)} differs from ${file} (${where}): ` +
        "empty the database and copy again",
    );
  const progress = new Progress(`${table.name} compared`, table.count);
  let after: Key | null = null;
  let count = 0;
  let total = 0n;
  for await (const rows of table.pages(null)) {
    const upTo = rows.at(-1)!.slice(0, table.keyLength);
    const expected = rows.reduce((sum, row) => sum + checksum(table, row), 0);
    const found = await steadily(copy, () => copy.sumOf(table, after, upTo));
    const where = `from ${after ?? "the first"} to ${upTo}`;
    if (found.rows !== rows.length) throw differs(`${found.rows} rows instead of ${rows.length}, ${where}`);
    if (found.sum !== expected) throw differs(`another checksum, ${where}`);
    after = upTo;
    count += rows.length;
    total += BigInt(expected);
    progress.advance(rows.length);
  }
  const more = await steadily(copy, () => copy.sumOf(table, after, null));
  if (more.rows > 0) throw differs(`${more.rows} rows more`);
  if (count !== table.count)
    throw new StartError(
      `${file} is damaged: ${count} rows of ${table.name} instead of ${table.count}: ${restore(file)}`,
    );
  const shown = (total & 0xffffffffn).toString(16).padStart(8, "0");
  progress.end(`${grouped(count)} rows, checksum ${shown}, the same on both sides`);
}

/** The checksum that CopyTarget.sumOf makes the database compute. */
function checksum({ columns }: SourceTable, row: Value[]): number {
  const values = row.map((value, i) =>
    value === null ? "" : columns[i]!.text ? Bun.hash.crc32(String(value)) : value,
  );
  return Bun.hash.crc32(values.join(","));
}

/** Runs `work`, again after each loss of the connection: it must start from what the database has. */
async function steadily<T>(copy: CopyTarget, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      await copy.reconnect(error);
    }
  }
}
