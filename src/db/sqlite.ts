// The embedded store, seen from the reactor's thread: operations go to the worker in batches and come back in order.
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { ChatError, type JsonObject } from "../protocol.ts";
import { StartError } from "../start-error.ts";
import { type Operations, Pieces, type Store, StoreError } from "./db.ts";
import { lockDatabase, setLogAside } from "./lock.ts";

/** `pieces`: how many of the pieces that follow the requests belong to it: see `post`. */
export type Request = [operation: string, args: unknown[], pieces: number];
export type Failure = { errno: number | null; message: string; extra: JsonObject };
export type Reply = [value: unknown, failure: Failure | null];
export type StartReply = { error: string | null };
export type Trouble = { trouble: string };

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/**
 * Opens (or creates) the database `file` in a thread of its own; `thread` is the program that serves `operations` there
 * (see sqlite-worker.ts). `onDead` is called once, with the reason, if that thread ends unasked: it is not restarted.
 * `onTrouble` is called with what is wrong, at most once a second. Throws StartError.
 */
export async function openSqliteStore<O extends Operations>(
  file: string,
  operations: O,
  thread: URL,
  onDead: (why: string) => void = () => undefined,
  onTrouble: (what: string) => void = () => undefined,
): Promise<Store<O>> {
  let unlock: () => void;
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    unlock = lockDatabase(file);
    const aside = setLogAside(file);
    if (aside !== null) onTrouble(aside);
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(
      `${file} cannot be opened for writing (${(error as Error).message}): give --data another path`,
    );
  }
  const worker = new Worker(thread);
  const ended = new Promise((resolve) => worker.addEventListener("close", resolve));
  const answer = () =>
    new Promise<void>((resolve, reject) => {
      worker.onmessage = ({ data }: MessageEvent<StartReply | Trouble>) => {
        if ("trouble" in data) onTrouble(data.trouble);
        else if (data.error === null) resolve();
        else reject(new StartError(data.error));
      };
      worker.onerror = (event) => reject(new StartError(`${file}: ${event.message}`));
    });
  worker.postMessage({ open: file });
  try {
    const early = ended.then(() => Promise.reject(new StartError(`${file}: the store's thread has ended`)));
    await Promise.race([answer(), early]);
  } catch (error) {
    worker.terminate();
    unlock();
    throw error;
  }

  /**
   * In the order of the requests, which is that of the replies. Not a Map: where entries come and go, its outgrown
   * tables keep each other, and what they held, alive until the next full garbage collection.
   */
  const pending: Pending[] = [];
  let outbox: Request[] = [];
  let pieces: string[] = [];
  worker.onmessage = ({ data }: MessageEvent<string | Trouble>) => {
    if (typeof data !== "string") return onTrouble(data.trouble);
    const replies = JSON.parse(data) as Reply[];
    for (const [i, { resolve, reject }] of pending.splice(0, replies.length).entries()) {
      const [value, failure] = replies[i]!;
      if (failure === null) resolve(value);
      else if (failure.errno === null) reject(new StoreError(failure.message));
      else reject(new ChatError(failure.errno, failure.message, failure.extra));
    }
  };
  /** Why calls are no longer accepted; null while they are. */
  let gone: StoreError | null = null;
  const die = (why: string) => {
    const isNews = gone === null;
    gone = new StoreError(`the store's thread has ended: ${why}`);
    for (const { reject } of pending.splice(0)) reject(gone);
    if (isNews) onDead(why);
  };
  worker.onerror = ({ message }) => die(causeOf(message));
  ended.then(() => die("without an error"));

  /** As one string, which crosses threads cheapest: the requests in the first line, then one line per piece. */
  const post = () => {
    if (outbox.length > 0) worker.postMessage([JSON.stringify(outbox), ...pieces].join("\n"));
    outbox = [];
    pieces = [];
  };
  const call = (operation: string, args: unknown[]) =>
    new Promise((resolve, reject) => {
      if (gone !== null) return reject(gone);
      pending.push({ resolve, reject });
      const last = args.at(-1);
      const own = last instanceof Pieces ? last.list : [];
      if (own.length > 0) pieces = pieces.concat(own);
      if (outbox.push([operation, own.length > 0 ? args.slice(0, -1) : args, own.length]) === 1) queueMicrotask(post);
    });

  const store = Object.fromEntries(
    Object.keys(operations).map((name) => [name, (...args: unknown[]) => call(name, args)]),
  );
  const close = async () => {
    if (gone !== null) return;
    gone = new StoreError("the store is closed");
    post();
    while (pending.length > 0) await Bun.sleep(1);
    worker.postMessage({ close: true });
    await Promise.race([answer().catch(() => undefined), ended]);
    worker.terminate();
    unlock();
  };
  return { ...store, close } as Store<O>;
}

/** Strips the source text before the error, which can be the whole program in one line. */
const causeOf = (message: string): string => message.slice(Math.max(0, message.search(/^\w*error: /im)));
