// What the models need of a database. One implementation per dialect; all that differs between them is behind this.
import type { Series } from "./series.ts";

export type Value = string | number | null;

/** The store did not do what was asked; nothing of it is known to be stored. Its message is for the log, not for clients. */
export class StoreError extends Error {}

/** What an operation is given as JSON that need not be read on its way: no piece of it holds a line feed. */
export class Pieces {
  constructor(readonly list: string[]) {}
}

/**
 * A piece of business done in one transaction. Its arguments and its result are plain data, but for Pieces as the last
 * argument: it may run in another thread.
 */
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

/** One transaction. Everything done through it is committed, or nothing. It may be run again from its start. */
export interface Tx {
  /** Rows of one statement. `IN (?)` takes an array. */
  all<Row>(sql: string, params?: (Value | Value[])[]): Promise<Row[]>;
  /** The id that an INSERT was given. */
  run(sql: string, params?: (Value | Value[])[]): Promise<{ id: number }>;
  /** Rows whose `by` columns equal one of `keys`, in any order. */
  find<Row>(table: string, columns: string[], by: string[], keys: Value[][]): Promise<Row[]>;
  /** As `find`; nobody else changes these rows before the transaction has ended. With `skip`, those that another holds lack. */
  lock<Row>(table: string, columns: string[], by: string[], keys: Value[][], onLocked?: "skip"): Promise<Row[]>;
  /** Inserts `rows`; with `ignore`, passes over those whose key exists. */
  insert(table: string, columns: string[], rows: Value[][], onConflict?: "ignore"): Promise<void>;
  /** Inserts rows of (key columns…, number), or raises the number of the row that exists; never lowers it. */
  raise(table: string, columns: string[], rows: Value[][]): Promise<void>;
  /**
   * Those of `boots` that belong to other servers, and are not known to be dead: none where nobody shares the store. An
   * expired lease alone is no death: after an outage of the database all have expired.
   */
  alive(boots: string[]): Promise<Set<string>>;
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

export interface Conversation {
  id: number;
  /** 0: of two users. 1: of a group. */
  kind: number;
  /** With `hi`: the two users, or the group and 0. */
  lo: number;
  hi: number;
  last_seq: number;
  /** Grows with each change of a group's members. */
  member_ver: number;
}

/** The conversations' rows. Apart from the tables, because their layout decides what a commit costs. */
export interface Log {
  /** The conversations that exist of these, by name ("u:1-2", "g:3"). Their `last_seq` and `member_ver` may be old: see `lock`. */
  named(convs: string[]): Promise<Map<string, Conversation>>;
  /** Makes conversations, unless they exist. May commit them at once: to be called before the transaction writes. */
  create(convs: string[]): Promise<void>;
  /**
   * What `named` gave, up to date, and those that are gone left out. Nobody else appends to them or changes their members
   * until the transaction has ended: writers decide after this. To be called once, before the transaction writes.
   */
  lock(named: Map<string, Conversation>): Promise<Map<string, Conversation>>;
  /** For readers: conversations as read from their table, with `last_seq` as it is: the table may be behind the log. */
  current<Row extends { id: number; last_seq: number }>(rows: Row[]): Row[];
  /** The members of a locked group change: raises `member_ver`, also in `conversation`. */
  changeMembers(conversation: Conversation): Promise<void>;
  /**
   * Appends rows that follow their conversations' `last_seq` without gaps, and moves that on. False where the `mid` of one is stored already,
   * or twice among them: then none is appended. The conversations must be locked.
   */
  append(all: Series[]): Promise<boolean>;
  /** Rows with seq > `after`, ascending: at most `limit`, and at least one but not many over `bytes` of text. */
  page(conversation: number, after: number, limit: number, bytes: number): Promise<LogRow[]>;
  /** How many of a conversation's rows with seq > `after` the device `device` sent. */
  countOf(device: number, conversation: number, after: number): Promise<number>;
  /** The rows stored under these (conversation, sender, mid). */
  byMid(keys: [conversation: number, sender: number, mid: string][]): Promise<LogRow[]>;
}

/** How far a conversation's log reached when a batch was committed. */
export type Head = [conversation: number, conv: string, lastSeq: number, memberVersion: number];

/** What a store adds that several servers (instances) share. */
export interface Shared {
  /** Names this start of this server; another one after `restart`. */
  readonly boot: string;
  /**
   * Whether the others still count this boot as alive: the lease was confirmed less than its time ago, by this machine's
   * monotonic clock, counted from when the confirmation was asked for. A comparison of two numbers: ask before every
   * action that only a living boot may take. Where it is not valid, `onRegained` or `onLost` follows when the database
   * can be asked.
   */
  leaseValid(): boolean;
  /**
   * Called once for each boot that others have taken over, as the store learns it: all calls are rejected then until
   * `restart`. The store may learn it later than `leaseValid`.
   */
  onLost(callback: () => void): void;
  /**
   * Called when the lease is valid after a time in which it was not (the database was away, or the process paused): nobody
   * has taken this boot over, but what the others have done meanwhile is not known here.
   */
  onRegained(callback: () => void): void;
  /**
   * Starts over as a new boot; to be called when the lease is lost. What the old one still has under way changes nothing
   * any more. Rejects with StoreError where the database is away: call it again.
   */
  restart(): Promise<void>;
  /** Called with boots of others that are gone: shut down, or found dead (by whichever instance) and fenced. */
  onDead(callback: (boots: string[]) => void): void;
  /**
   * Whether the boot of another instance has ended: its lease has, or its process has no connection to the database any
   * more. It is fenced then, and `onDead` is called. A paused process is not found by this before its lease ends. False
   * shortly after an outage of the database, when those who live may not be back yet.
   */
  checkDead(boot: string): Promise<boolean>;
  /** The other boots that were alive lately; of those that are gone, `onDead` is called with the next look at them. */
  others(): string[];
  /**
   * What other boots (and this one, where a call had been rejected already) have committed since the last call: a
   * conversation's newest head. `all`: more than could be told, compare the heads of all sessions.
   */
  readCommits(): Promise<{ heads: Head[]; all: boolean }>;
  /** Users who have come or gone on any instance of late, since well before the last call. */
  readOnline(): Promise<number[]>;
}

/**
 * How an operation on batches is divided among lanes, and batches are put together: outcomes come in the rows' order. A batch
 * is the operation's arguments.
 */
export interface BatchPlan<Batch extends unknown[], Result, Row, Outcome> {
  operation: string;
  rowsOf(batch: Batch): Row[];
  batchOf(rows: Row[]): Batch;
  /** Rows of one key stay in order. */
  keyOf(row: Row): string;
  /** About the characters that it takes. */
  sizeOf(row: Row): number;
  outcomesOf(result: Result): Outcome[];
  resultOf(outcomes: Outcome[]): Result;
  /** The outcome of a row that is not stored. */
  refuse(row: Row, errno: number, errmsg: string): Outcome;
}

/** A call of an operation. */
export type Call = [name: string, args: unknown[]];

/** The outcome of a call that cannot be done together with others. */
export const ALONE = Symbol("alone");

/** Operations that many ask for at the same time, as in a storm of log-ins: what has gathered is done in one transaction. */
export interface Together {
  operations: string[];
  /** Transactions at the same time: who reads much must not hold up all others, who writes only meets the others' locks. */
  atOnce: number;
  /** By call: its result, its ChatError, or ALONE. */
  run(tx: Tx, calls: Call[]): Promise<unknown[]>;
}

/** Which operations append to logs: the batches, and those that append one event at a time. And which are done together. */
export interface Writers<Batches> {
  batches: Batches;
  events: string[];
  together: Together[];
}
