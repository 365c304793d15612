// What a handler is: a function from a request to the fields of its answer, with its place in the connection's order.
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
  /** The key that signs tokens. */
  secret: string;
  tokenTtlMs: number;
  /** How long a store operation may take; after that the client gets errno 19. */
  storeTimeoutMs: number;
  log: Log;
}

export interface Request {
  connection: Connection;
  slot: number;
  message: Message;
  reqId: string | number | undefined;
}

/** The fields of a successful answer, and what must happen once it is written. */
export interface Reply {
  fields: JsonObject;
  /** Runs right after the answer is written, before anything else is. For barriers only. */
  afterwards?: () => void;
}

interface Order {
  /**
   * pipelined: started and answered in order, stored together. immediate: served at once. barrier: started when all
   * earlier requests are answered, and later ones wait for it.
   */
  order: "pipelined" | "immediate" | "barrier";
  /** It may be served while the instance has lost contact with the store. */
  storeless?: true;
}

/** A ChatError thrown becomes the answer. Null: the handler answers by itself, later. */
type Result = Reply | null | Promise<Reply | null>;

export type Handler = Order &
  (
    | { needsLogin: false; run(context: Context, request: Request, session: Session | null): Result }
    | { needsLogin: true; run(context: Context, request: Request, session: Session): Result }
  );
