// What the models need of a database. One implementation per dialect; all that differs between them is behind this.

export type Value = string | number | null;

/** The store did not do what was asked; nothing of it is known to be stored. Its message is for the log, not for clients. */
export class StoreError extends Error {}

/** A piece of business done in one transaction. Its arguments and its result are plain data: it may run in another thread. */
// biome-ignore lint/suspicious/noExplicitAny: a parameter list of its own for each operation
export type Operations = Record<string, (tx: Tx, ...args: any[]) => Promise<unknown>>;

/**
 * The operations as their callers see them: each call runs in a transaction, in the order of the calls, and settles
 * when that is committed. Rejects with the operation's ChatError, or with StoreError.
 */
export type Store<O extends Operations> = {
  [Name in keyof O]: O[Name] extends (tx: Tx, ...args: infer Args) => infer Result ? (...args: Args) => Result : never;
} & {
  /** Waits for what was asked before, and closes the database. */
  close(): Promise<void>;
};

/** One transaction. Everything done through it is committed, or nothing. */
export interface Tx {
  /** Rows of one statement. `IN (?)` takes an array. */
  all<Row>(sql: string, params?: (Value | Value[])[]): Promise<Row[]>;
  /** Changed rows, and the id that an INSERT was given. */
  run(sql: string, params?: Value[]): Promise<{ changes: number; id: number }>;
  /** Rows whose `by` columns equal one of `keys`, in any order. */
  find<Row>(table: string, columns: string[], by: string[], keys: Value[][]): Promise<Row[]>;
  /** Inserts `rows`; with `ignore`, passes over those whose key exists. */
  insert(table: string, columns: string[], rows: Value[][], onConflict?: "ignore"): Promise<void>;
  /** Inserts rows of (key columns…, number), or raises the number of the row that exists; never lowers it. */
  raise(table: string, columns: string[], rows: Value[][]): Promise<void>;
  readonly log: Log;
}

/** A row of a conversation's log. */
export type LogRow = [
  conversation: number,
  seq: number,
  kind: number,
  sender: number,
  device: number,
  mid: string | null,
  ts: number,
  body: string,
];

/** The conversations' rows. Apart from the tables, because their layout decides what a commit costs. */
export interface Log {
  /** Conversations as read from their table, with `last_seq` as it is: the table may be behind the log. */
  current<Row extends { id: number; last_seq: number }>(rows: Row[]): Row[];
  /**
   * Appends rows that follow their conversations' `last_seq` without gaps, and moves that on. False where the `mid` of one is stored already,
   * or twice among them: then none is appended.
   */
  append(rows: LogRow[]): Promise<boolean>;
  /** Rows with seq > `after`, ascending: at most `limit`, and at least one but not many over `bytes` of text. */
  page(conversation: number, after: number, limit: number, bytes: number): Promise<LogRow[]>;
  /** How many of a conversation's rows with seq > `after` the device `device` sent. */
  countOf(device: number, conversation: number, after: number): Promise<number>;
  /** The rows stored under these (conversation, sender, mid). */
  byMid(keys: [conversation: number, sender: number, mid: string][]): Promise<LogRow[]>;
}
