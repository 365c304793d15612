// Statements as text: every value goes through `literal`; every name is a constant of the source.
import type { Value } from "./db.ts";
import { literal, type Result } from "./mysql-connection.ts";

/** Keys per statement: with more, MariaDB may read them in another order than the index's. */
const MAX_KEYS = 900;
/** Bytes of keys per statement: max_allowed_packet may be small. */
const MAX_BYTES = 32_768;

/** A table or column name, quoted: some of ours are reserved words. */
export const quoted = (name: string): string => `\`${name}\``;

export const columnList = (columns: string[]): string => columns.map(quoted).join(", ");

/** Values, comma-separated; an empty list becomes NULL, which equals nothing. */
export const literals = (values: readonly Value[]): string =>
  values.length === 0 ? "NULL" : values.map(literal).join(", ");

/** `sql` with each `?` replaced by a value, or an array's values. Statements hold no `?` in quotes. */
export function statement(sql: string, params: readonly (Value | Value[])[]): string {
  let at = 0;
  return sql.replaceAll("?", () => {
    const value = params[at++]!;
    return Array.isArray(value) ? literals(value) : literal(value);
  });
}

/** SELECTs of the rows of `from` whose `by` columns equal one of `keys`. */
export function selects(from: string, columns: string[], by: string[], keys: readonly Value[][]): string[] {
  const made: string[] = [];
  const key = by.length === 1 ? columnList(by) : `(${columnList(by)})`;
  let wanted: string[] = [];
  let length = 0;
  for (const [i, each] of keys.entries()) {
    const one = by.length === 1 ? literals(each) : `(${literals(each)})`;
    wanted.push(one);
    length += Buffer.byteLength(one);
    if (wanted.length < MAX_KEYS && length < MAX_BYTES && i < keys.length - 1) continue;
    made.push(`SELECT ${columns.join(", ")} FROM ${from} WHERE ${key} IN (${wanted.join(", ")})`);
    wanted = [];
    length = 0;
  }
  return made;
}

/** The rows of a result, as objects by column name. */
export function toObjects<Row>({ columns, rows }: Result): Row[] {
  return rows.map((row) => {
    const object: Record<string, Value> = {};
    for (let i = 0; i < columns.length; i++) object[columns[i]!] = row[i]!;
    return object as Row;
  });
}

/** The order in which locks are taken. */
export function compareKeys(a: Value[], b: Value[]): number {
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i]) continue;
    return a[i]! < b[i]! ? -1 : 1;
  }
  return 0;
}
