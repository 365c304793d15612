// The thread that owns the embedded database. It runs the operations that the main thread sends, in order, and commits
// those that have arrived together in one transaction (group commit), so that an fsync never stalls the reactor.
import type { Database } from "bun:sqlite";
import { fdatasyncSync, realpathSync } from "node:fs";
import { ChatError } from "../protocol.ts";
import { type Operations, Pieces } from "./db.ts";
import type { Failure, Reply, Request, StartReply } from "./sqlite.ts";
import { Checkpointer } from "./sqlite-checkpoint.ts";
import { DatabaseFiles } from "./sqlite-files.ts";
import { MAX_JOURNAL_ROWS } from "./sqlite-log.ts";
import { openDatabase, unusable } from "./sqlite-migrate.ts";
import { LogSync } from "./sqlite-sync.ts";
import { SqliteTx } from "./sqlite-tx.ts";

declare const self: Worker;

/** A transaction takes no more operations after this time: bounds how long a storm of logins makes others wait. */
const MAX_TRANSACTION_MS = 10;
/** Everything is folded when nothing has been requested for this long. */
const IDLE_MS = 250;
/** Memory is given back when nothing has been requested for this long, after so many requests. */
const QUIET_MS = 3_000;
const QUIET_AFTER = 1_000;

let operations: Operations;
let db: Database;
let tx: SqliteTx;
let files: DatabaseFiles;
let checkpointer: Checkpointer;
let logSync: LogSync;
let inbox: Request[] = [];
let running = false;
/** Starts folding when idle, then gives memory back. */
let idle: Timer | undefined;
/** How many requests there were since memory was given back. */
let requested = 0;

/**
 * Makes this thread the store's: it serves openSqliteStore until closed. `checkpoints` must call serveCheckpoints.
 * `syncFile` is for tests: see LogSync.
 */
export function serve(served: Operations, checkpoints: URL, syncFile: (fd: number) => void = fdatasyncSync): void {
  operations = served;
  self.onmessage = ({ data }: MessageEvent<{ open: string } | { close: true } | string>) => {
    if (typeof data === "string") {
      const requests = unpack(data);
      inbox = inbox.length === 0 ? requests : inbox.concat(requests);
      if (!running) {
        running = true;
        clearTimeout(idle);
        setImmediate(work);
      }
    } else if ("open" in data) self.postMessage(open(data.open, checkpoints, syncFile));
    else close().then((reply) => self.postMessage(reply));
  };
}

/** The inverse of openSqliteStore's `post`. */
function unpack(posted: string): Request[] {
  const [json, ...pieces] = posted.split("\n");
  const requests = JSON.parse(json!) as Request[];
  let at = 0;
  for (const [, args, count] of requests)
    if (count > 0) {
      args.push(new Pieces(pieces.slice(at, at + count)));
      at += count;
    }
  return requests;
}

function open(file: string, checkpoints: URL, syncFile: (fd: number) => void): StartReply {
  try {
    db = openDatabase(file);
    tx = new SqliteTx(db);
    tx.log.replay();
    const path = realpathSync(file);
    files = new DatabaseFiles(db, path, (trouble) => self.postMessage({ trouble }));
    checkpointer = new Checkpointer(db, path, checkpoints);
    logSync = new LogSync(db, `${path}-wal`, syncFile);
    return { error: null };
  } catch (error) {
    return { error: unusable(file, error as Error).message };
  }
}

/** All earlier requests are done: messages arrive in order, and `work` never leaves any behind. */
async function close(): Promise<StartReply> {
  clearTimeout(idle);
  while (foldPortion());
  await checkpointer.close();
  try {
    db.run("PRAGMA wal_checkpoint(TRUNCATE)");
    tx.finalize();
    logSync.close();
    // Removes the log. If another file has taken this one's place, SQLite leaves that file's log alone.
    db.close();
    return { error: null };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

/** One turn: operations first; folding while there are none, or when the journal grows too long. */
async function work(): Promise<void> {
  if (inbox.length > 0 && tx.log.size < MAX_JOURNAL_ROWS) await runInbox();
  else if (!tx.folder.due || !foldPortion()) {
    if (inbox.length > 0) await runInbox();
    else {
      running = false;
      idle = setTimeout(foldIdle, IDLE_MS);
      return;
    }
  }
  setImmediate(work);
}

async function runInbox(): Promise<void> {
  const requests = inbox;
  inbox = [];
  requested += requests.length;
  for (let at = 0; at < requests.length; ) {
    const replies: Reply[] = [];
    at = await transact(requests, at, requests.length, replies);
    self.postMessage(JSON.stringify(replies));
    if (files.areInPlace()) checkpointer.look();
  }
}

/**
 * Runs requests from index `first` on, `most` at most, in one transaction; returns where the next one starts. If it
 * fails, each is run alone: on a full disk those that only read must not fail along with those that write.
 */
async function transact(requests: Request[], first: number, most: number, replies: Reply[]): Promise<number> {
  const startedAt = performance.now();
  const end = Math.min(first + most, requests.length);
  const made: Reply[] = [];
  let at = first;
  try {
    tx.prepare(files.areInPlace() ? "BEGIN IMMEDIATE" : "BEGIN").run();
    // One that fails with the whole transaction is among those up to `at` too.
    do made.push(await attempt(requests[at++]!));
    while (at < end && performance.now() - startedAt < MAX_TRANSACTION_MS);
    tx.log.record();
    tx.prepare("COMMIT").run();
    tx.log.committed();
  } catch (error) {
    // Nothing of this transaction is stored, whatever its operations returned.
    tx.log.undo(0);
    rollBack();
    at = Math.max(at, first + 1);
    if (at === first + 1) replies.push([null, failure(error)]);
    else for (let next = first; next < at; next++) await transact(requests, next, 1, replies);
    return at;
  }
  try {
    logSync.sync();
    replies.push(...made);
  } catch (error) {
    // All of it may be stored, or not.
    replies.push(...made.map((): Reply => [null, failure(error)]));
  }
  return at;
}

function rollBack(): void {
  try {
    tx.prepare("ROLLBACK").run();
  } catch {
    // After a full disk or an I/O error SQLite has done so by itself, or does when the file is opened again.
  }
}

/** Goes on folding while nothing is requested. */
function foldIdle(): void {
  if (tx.folder.pending && foldPortion()) idle = setTimeout(foldIdle, 0);
  else if (requested >= QUIET_AFTER) idle = setTimeout(returnMemory, QUIET_MS);
}

/** Gives back to the system what SQLite has cached, which the system caches too, and what requests have left behind. */
function returnMemory(): void {
  requested = 0;
  db.run("PRAGMA shrink_memory");
  Bun.gc(true);
}

/**
 * A transaction that only folds; false where nothing is left to fold, or it fails. It is not synced: until a later
 * commit is, the journal on disk still holds what it has moved.
 */
function foldPortion(): boolean {
  if (!files.areInPlace()) return false;
  checkpointer.look();
  try {
    tx.prepare("BEGIN IMMEDIATE").run();
    tx.folder.fold();
    tx.prepare("COMMIT").run();
    tx.folder.committed();
    logSync.skip();
    return tx.folder.pending;
  } catch (error) {
    // What is in the journal is safely stored: the next attempt folds it.
    self.postMessage({ trouble: `the journal is not folded yet, trying again: ${(error as Error).message}` });
    tx.folder.rolledBack();
    rollBack();
    return false;
  }
}

/** Runs one operation, and undoes only that if it fails. */
async function attempt([name, args]: Request): Promise<Reply> {
  tx.prepare("SAVEPOINT operation").run();
  const mark = tx.log.mark();
  try {
    const value = await operations[name]!(tx, ...args);
    tx.prepare("RELEASE operation").run();
    return [value, null];
  } catch (error) {
    // A full disk or an I/O error has already ended the whole transaction.
    if (!db.inTransaction) throw error;
    tx.log.undo(mark);
    tx.prepare("ROLLBACK TO operation").run();
    tx.prepare("RELEASE operation").run();
    return [null, failure(error)];
  }
}

function failure(error: unknown): Failure {
  if (error instanceof ChatError) return { errno: error.errno, message: error.errmsg, extra: error.extra };
  return {
    errno: null,
    message: `${(error as { code?: string }).code ?? "bug"}: ${(error as Error).message}`,
    extra: {},
  };
}
