// What a handler is: a function from a request to its answer's fields, and where it stands in the connection's order.
import type { Store } from "../model/store.ts";
import type { Connection } from "../net/connection.ts";
import type { JsonObject, Message } from "../protocol.ts";
import type { Committer } from "./committer.ts";
import type { Log } from "./log.ts";
import type { Passwords } from "./password.ts";
import type { Session } from "./session.ts";
import type { Sessions } from "./sessions.ts";

/** What handlers work with. */
export interface Context {
  store: Store;
  sessions: Sessions;
  committer: Committer;
  passwords: Passwords;
  /** Signs tokens. */
  secret: string;
  tokenTtlMs: number;
  /** The store's time to do what is asked of it; then the client is told 19. */
  storeTimeoutMs: number;
  log: Log;
}

export interface Request {
  connection: Connection;
  slot: number;
  message: Message;
  reqId: string | number | undefined;
}

/** Fields of a successful answer, with what must happen once it is written. */
export interface Reply {
  fields: JsonObject;
  /** Runs right after the answer is written, before anything else is. */
  afterwards?: () => void;
}

interface Order {
  /**
   * pipelined: started in order, answered in order, stored together. immediate: done at once. barrier: started when
   * all earlier requests are answered, and later ones wait for it.
   */
  order: "pipelined" | "immediate" | "barrier";
  /** It may be answered without contact with the store. */
  storeless?: true;
}

/** Throws ChatError, which becomes the answer. Null: it answers by itself, later. */
type Result = Reply | null | Promise<Reply | null>;

export type Handler = Order &
  (
    | { login: false; run(context: Context, request: Request, session: Session | null): Result }
    | { login: true; run(context: Context, request: Request, session: Session): Result }
  );
