// What the models need from a database. One implementation per dialect, which hides all differences between them.
import type { Series } from "./series.ts";

export type Value = string | number | null;

/** The store failed: nothing that was asked is known to be stored. The message is for the log, not for clients. */
export class StoreError extends Error {}

/** An operation's argument as pieces of JSON that need not be parsed on the way. No piece holds a line feed. */
export class Pieces {
  constructor(readonly list: string[]) {}
}

/**
 * Operations, each run in one transaction. Arguments and result are plain data, except for Pieces as the last argument:
 * it may run in another thread.
 */
// biome-ignore lint/suspicious/noExplicitAny: each operation has its own parameter list
export type Operations = Record<string, (tx: Tx, ...args: any[]) => Promise<unknown>>;

/**
 * The operations as their callers see them: each call runs in a transaction, in the order of the calls, and settles
 * when that is committed. Rejects with the operation's ChatError, or with StoreError.
 */
export type Store<O extends Operations> = {
  [Name in keyof O]: O[Name] extends (tx: Tx, ...args: infer Args) => infer Result ? (...args: Args) => Result : never;
} & {
  /** Waits for earlier calls, then closes the database. */
  close(): Promise<void>;
};

/**
 * One transaction: all that is done through it is committed, or nothing. It may be run again from its start. Where a
 * change fails, that may show only at a later call, or at COMMIT.
 */
export interface Tx {
  /** The rows that a statement returns. `IN (?)` takes an array. */
  all<Row>(sql: string, params?: (Value | Value[])[]): Promise<Row[]>;
  /** Runs a statement that changes rows. */
  run(sql: string, params?: (Value | Value[])[]): Promise<void>;
  /** Rows whose `by` columns equal one of `keys`, in any order. */
  find<Row>(table: string, columns: string[], by: string[], keys: Value[][]): Promise<Row[]>;
  /** Like `find`; nobody else changes these rows before the transaction ends. `skip` omits rows locked by others. */
  lock<Row>(table: string, columns: string[], by: string[], keys: Value[][], onLocked?: "skip"): Promise<Row[]>;
  /** Inserts a row, and returns the id that it was given. */
  create(table: string, columns: string[], row: Value[]): Promise<number>;
  /** Inserts `rows`; with `ignore`, skips those whose key exists. */
  insert(table: string, columns: string[], rows: Value[][], onConflict?: "ignore"): Promise<void>;
  /** Inserts rows of (key columns…, number), or raises the existing row's number; never lowers it. */
  raise(table: string, columns: string[], rows: Value[][]): Promise<void>;
  /**
   * Those of `boots` that belong to other servers and are not known to be dead; none where nobody shares the store. An
   * expired lease does not prove death: after an outage of the database all leases have expired.
   */
  alive(boots: string[]): Promise<Set<string>>;
  readonly log: ConversationLog;
}

/** A row of a conversation's log; `ts` in milliseconds since 1970 UTC. */
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
  /** 0: direct. 1: group. */
  kind: number;
  /** `lo` and `hi`: the two users (`lo` ≤ `hi`), or the group and 0. */
  lo: number;
  hi: number;
  last_seq: number;
  /** Incremented with each change of a group's members. */
  member_ver: number;
}

/** The conversations' rows. Separate from the tables, because their layout decides what a commit costs. */
export interface ConversationLog {
  /** The conversations that exist, by name ("u:1-2", "g:3"). `last_seq` and `member_ver` may be stale: see `lock`. */
  named(convs: string[]): Promise<Map<string, Conversation>>;
  /** Creates conversations, unless they exist. May commit that at once: to be called before the transaction writes. */
  create(convs: string[]): Promise<void>;
  /**
   * Takes the result of `named`, returns it up to date and without those that are gone. Nobody else appends to them or
   * changes their members until the transaction ends: writers decide after this. To be called once, before it writes.
   */
  lock(named: Map<string, Conversation>): Promise<Map<string, Conversation>>;
  /** For readers: corrects `last_seq` in rows read from the conversation table, which may be behind the log. */
  current<Row extends { id: number; last_seq: number }>(rows: Row[]): Row[];
  /** The members of a locked group change: increments `member_ver`, also in `conversation`. */
  changeMembers(conversation: Conversation): Promise<void>;
  /**
   * Appends rows that follow their conversations' `last_seq` without gaps, and advances that. False, with none
   * appended, where one's `mid` is stored already or occurs twice among them. The conversations must be locked.
   */
  append(all: Series[]): Promise<boolean>;
  /** Rows with seq > `after`, ascending: at most `limit`, and at least one, but not many over `bytes` of text. */
  page(conversation: number, after: number, limit: number, bytes: number): Promise<LogRow[]>;
  /** How many of a conversation's rows with seq > `after` were sent by `device`. */
  countOf(device: number, conversation: number, after: number): Promise<number>;
  /** The rows stored under these (conversation, sender, mid). */
  byMid(keys: [conversation: number, sender: number, mid: string][]): Promise<LogRow[]>;
}

/** How far a conversation's log reached when a batch was committed. */
export type Head = [conversation: number, conv: string, lastSeq: number, memberVersion: number];

/** What a store shared by several servers (instances) adds. */
export interface Shared {
  /** The name of this start of this server; a new one after `restart`. */
  readonly boot: string;
  /**
   * Whether the others still count this boot as alive: the lease was last confirmed less than its duration ago, by this
   * machine's monotonic clock, counted from when that confirmation was requested. It only compares two numbers: ask
   * before every action that only a living boot may take. Once it is invalid, `onRegained` or `onLost` follows when the
   * database answers.
   */
  leaseValid(): boolean;
  /**
   * Called once for each boot that others have taken over, when the store learns of it, which may be later than
   * `leaseValid` turns false. From then on all calls are rejected until `restart`.
   */
  onLost(callback: () => void): void;
  /**
   * Called when the lease is valid again after a time in which it was not (the database was away, or the process
   * paused): nobody has taken this boot over, but what others have done meanwhile is not known here.
   */
  onRegained(callback: () => void): void;
  /**
   * Starts over as a new boot; to be called when the lease is lost. What the old boot still has under way changes
   * nothing any more. Rejects with StoreError where the database is away: call it again.
   */
  restart(): Promise<void>;
  /** Called with other boots that are gone: shut down, or found dead (by whichever instance) and fenced. */
  onDead(callback: (boots: string[]) => void): void;
  /**
   * Whether another instance's boot has ended: its lease has, or its process has no connection to the database any
   * more. If so it is fenced, and `onDead` is called. A paused process is not found before its lease ends. False
   * shortly after an outage of the database, when living instances may not be back yet.
   */
  fenceIfDead(boot: string): Promise<boolean>;
  /** The other boots alive at the last look; for those that are gone since, `onDead` is called with the next one. */
  otherBoots(): string[];
  /**
   * The newest heads of conversations to which other boots have committed since the last call, or this one in calls
   * that had already been rejected. `all`: not everything could be reported, so compare the heads of all sessions.
   */
  readCommits(): Promise<{ heads: Head[]; all: boolean }>;
  /** Users who have recently come or gone on any instance; reaches back to well before the last call. */
  readPresenceChanges(): Promise<number[]>;
}

/**
 * How batches of an operation are split among lanes, and parts of them combined. A Batch is the operation's argument
 * list; outcomes come in the order of the rows.
 */
export interface BatchPlan<Batch extends unknown[], Result, Row, Outcome> {
  operation: string;
  rowsOf(batch: Batch): Row[];
  batchOf(rows: Row[]): Batch;
  /** Rows with the same key stay in order. */
  keyOf(row: Row): string;
  /** Approximate size of a row, in characters. */
  sizeOf(row: Row): number;
  outcomesOf(result: Result): Outcome[];
  resultOf(outcomes: Outcome[]): Result;
  /** The outcome of a row that is not stored. */
  refuse(row: Row, errno: number, errmsg: string): Outcome;
}

export type Call = [name: string, args: unknown[]];

/** The outcome of a call that has to be run in a transaction of its own. */
export const ALONE = Symbol("alone");

/** Operations that many call at once, as in a storm of logins: calls that have gathered share a transaction. */
export interface Together {
  operations: string[];
  /** Concurrent transactions: large reads must not hold up all others, while writes would only meet locks. */
  atOnce: number;
  /** Returns for each call its result, its ChatError, or ALONE. */
  run(tx: Tx, calls: Call[]): Promise<unknown[]>;
}

/** Which operations append to logs, in batches or one event at a time, and which share transactions. */
export interface Writers<Batches> {
  batches: Batches;
  events: string[];
  together: Together[];
}
