// The embedded store as tables to copy: each in pages by ascending key, from any key on, in bounded memory.
import type { Database } from "bun:sqlite";
import type { Conversation, LogRow, Value } from "../db/db.ts";
import { openForReading } from "../db/sqlite-read.ts";
import { SqliteTx } from "../db/sqlite-tx.ts";

/** A row's primary key: the first columns of its table. */
export type Key = Value[];

export interface SourceTable {
  name: string;
  columns: Column[];
  /** How many of the columns form the key. */
  keyLength: number;
  /** Total number of rows. */
  count: number;
  /** The last id assigned, perhaps to a row that is gone; null where ids are not assigned. */
  lastId: number | null;
  /** Yields the rows above a key, ascending; null: all. */
  pages(after: Key | null): AsyncGenerator<Value[][]>;
}

export interface Column {
  name: string;
  text: boolean;
}

export interface Source {
  /** Differs between stores, and changes when a store has been served again. */
  stamp: string;
  tables: SourceTable[];
  close(): void;
}

const PAGE_ROWS = 1_000;
/** Characters of text in one page. */
const PAGE_TEXT = 256 * 1024;
/** The tables of the log, which is copied row by row instead. */
const LOG_TABLES = ["journal", "run", "run_end", "mid", "mid_range"];
const MESSAGE = ["conversation", "seq", "kind", "sender", "device", "mid", "ts", "body", "size"];
const MESSAGE_TEXTS = ["mid", "body"];

const SERVED = `SELECT (SELECT value FROM setting WHERE name = 'token_secret'),
  (SELECT json_group_array(json_array(name, seq)) FROM sqlite_sequence),
  (SELECT sum(epoch) FROM device), (SELECT sum(token_epoch) FROM user),
  (SELECT sum(member_ver) FROM conversation), (SELECT count(*) FROM friend)`;

/** Opens a file that no server uses. Throws StartError. */
export function openSource(file: string): Source {
  const { db, close } = openForReading(file);
  const tx = new SqliteTx(db);
  tx.log.replay();
  const served = JSON.stringify(db.query(SERVED).values()[0]);
  const stamp = new Bun.CryptoHasher("sha256").update(served).digest("hex");
  const names = db
    .query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid")
    .values()
    .map(([name]) => name as string);
  const tables = names.filter((name) => !LOG_TABLES.includes(name)).map((name) => plainTable(tx, db, name));
  return { stamp, tables: [...tables, messageTable(tx)], close };
}

/** A table with the same columns in both databases. */
function plainTable(tx: SqliteTx, db: Database, name: string): SourceTable {
  const info = db.query(`SELECT name, type, pk FROM pragma_table_info('${name}')`).all() as {
    name: string;
    type: string;
    pk: number;
  }[];
  const key = info.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk);
  const all = [...key, ...info.filter(({ pk }) => pk === 0)];
  const by = key.map((column) => column.name);
  const read = `SELECT ${all.map((column) => column.name)} FROM ${name}`;
  const order = `ORDER BY ${by} LIMIT ${PAGE_ROWS}`;
  const first = db.prepare(`${read} ${order}`);
  const next = db.prepare(`${read} WHERE (${by}) > (${by.map(() => "?")}) ${order}`);
  const [[count]] = db.query(`SELECT count(*) FROM ${name}`).values() as [[number]];
  const [given] = db.query("SELECT seq FROM sqlite_sequence WHERE name = ?").values(name) as [number][];
  const indexOf = (column: string) => all.findIndex((each) => each.name === column);

  async function* pages(after: Key | null): AsyncGenerator<Value[][]> {
    for (let at = after; ; ) {
      const rows = (at === null ? first.values() : next.values(...at)) as Value[][];
      if (rows.length === 0) return;
      at = rows.at(-1)!.slice(0, key.length);
      // Nobody is online in the copy; and this table is behind the journal.
      if (name === "device") for (const row of rows) row[indexOf("boot")] = "";
      if (name === "conversation") {
        const heads = tx.log.current(rows.map((row) => ({ id: row[0] as number, last_seq: -1 })));
        for (const [i, { last_seq }] of heads.entries()) if (last_seq >= 0) rows[i]![indexOf("last_seq")] = last_seq;
      }
      yield rows;
    }
  }
  return {
    name,
    columns: all.map((column) => ({ name: column.name, text: column.type === "TEXT" })),
    keyLength: key.length,
    count,
    lastId: given?.[0] ?? null,
    pages,
  };
}

function messageTable(tx: SqliteTx): SourceTable {
  const { log } = tx;
  const [[folded]] = tx.prepare("SELECT ifnull(sum(last_seq), 0) FROM conversation").values() as [[number]];
  let count = folded;
  for (const tail of log.tails.values()) for (const series of tail) count += series.count;
  const conversations = tx.prepare("SELECT id, last_seq FROM conversation WHERE id >= ? ORDER BY id LIMIT 1000");

  async function* pages(after: Key | null): AsyncGenerator<Value[][]> {
    const [from, above] = (after ?? [0, 0]) as [number, number];
    let page: LogRow[] = [];
    let text = 0;
    for (let id = from; ; ) {
      const found = log.current(conversations.all(id) as Pick<Conversation, "id" | "last_seq">[]);
      for (const each of found) {
        let at = each.id === from ? above : 0;
        while (at < each.last_seq) {
          const rows = await log.page(each.id, at, PAGE_ROWS - page.length, PAGE_TEXT - text);
          // If the file lacks rows, the count will show it.
          if (rows.length === 0) break;
          at = rows.at(-1)![1];
          for (const row of rows) text += row[7].length;
          page.push(...rows);
          if (page.length < PAGE_ROWS && text < PAGE_TEXT) continue;
          yield page.map(withSize);
          page = [];
          text = 0;
        }
      }
      if (found.length === 0) break;
      id = found.at(-1)!.id + 1;
    }
    if (page.length > 0) yield page.map(withSize);
  }
  const columns = MESSAGE.map((name) => ({ name, text: MESSAGE_TEXTS.includes(name) }));
  return { name: "message", columns, keyLength: 2, count, lastId: null, pages };
}

const withSize = (row: LogRow): Value[] => [...row, Buffer.byteLength(row[7])];
