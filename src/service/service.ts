// Joins the network part to the business part: every message enters here and is dispatched to its handler, and every
// failure becomes the request's answer.
import { type Shared, type Store, StoreError } from "../db/db.ts";
import type { operations } from "../model/store.ts";
import type { ConnectionEvents } from "../net/callbacks.ts";
import type { Connection } from "../net/connection.ts";
import type { Fault } from "../net/json.ts";
import * as field from "../protocol.ts";
import { ChatError, Errno, type JsonObject, MAX_FRAME_BYTES, type Message } from "../protocol.ts";
import { Cluster, type OpenRouter } from "./cluster.ts";
import { Committer } from "./committer.ts";
import type { Context, Handler, Reply, Request } from "./handler.ts";
import { handlers } from "./handlers.ts";
import { type Log, RateLimitedLog } from "./log.ts";
import { type PasswordOptions, Passwords } from "./password.ts";
import { answer, notice, retryAfterMs } from "./render.ts";
import { Sessions } from "./sessions.ts";

export interface ServiceOptions extends PasswordOptions {
  tokenTtlMs: number;
  /** How long a store operation may take; after that the client gets errno 19. */
  storeTimeoutMs: number;
}

/** A handler's time limit, the wait for a password hash included: then errno 19, and the connection ends. */
const REQUEST_TIMEOUT_MS = 30_000;

export class Service implements ConnectionEvents {
  private readonly context: Context;
  /** Null where no other instance shares the store. */
  private readonly cluster: Cluster | null;
  /** Serves connections above the limit, by refusing them. */
  readonly overload: ConnectionEvents = new Overload();
  private readonly rateLimitedLog: Log;

  constructor(
    store: Store<typeof operations> & Partial<Shared>,
    secret: string,
    options: ServiceOptions,
    openRouter: OpenRouter | null,
    private readonly log: Log,
  ) {
    const boot = crypto.randomUUID();
    this.rateLimitedLog = new RateLimitedLog(log);
    const sessions = new Sessions(store, () => store.boot ?? boot, this.rateLimitedLog);
    this.cluster = isShared(store) ? new Cluster(store, openRouter, sessions, log) : null;
    const committer = new Committer(store, sessions.delivery, options.storeTimeoutMs, this.rateLimitedLog);
    const passwords = new Passwords(options);
    const { tokenTtlMs, storeTimeoutMs } = options;
    this.context = { store, sessions, committer, passwords, secret, tokenTtlMs, storeTimeoutMs, log };
  }

  /** Resolves when the other instances can be reached; rejects with the reason. */
  async connected(): Promise<void> {
    await this.cluster?.connected();
  }

  /** Does in advance, while nobody waits, what would slow down the first login of an unknown user. */
  warmUp(): void {
    this.context.passwords.hashOfNobody().catch(() => undefined);
  }

  isBarrier(message: Message): boolean {
    return handlers.get(message.msgId)?.order === "barrier";
  }

  onMessage(connection: Connection, slot: number, message: Message): void {
    const request: Request = { connection, slot, message, reqId: undefined };
    try {
      request.reqId = field.reqId(message);
      const handler = handlers.get(message.msgId);
      if (handler === undefined)
        throw new ChatError(Errno.unknownMessage, `msgId: there is no request ${message.msgId}`);
      const result = this.run(handler, request);
      if (result instanceof Promise) this.settle(request, result);
      else if (result !== null) this.reply(request, result);
    } catch (error) {
      this.refuse(request, error);
    }
  }

  onFault(connection: Connection, slot: number, { errno, errmsg, reqId }: Fault): void {
    connection.answer(slot, answer(0, reqId, errno, { errmsg }));
  }

  onHalfClose(connection: Connection): void {
    const session = this.context.sessions.of(connection);
    if (session === null || session.behind.size === 0) connection.finish();
    else session.halfClosed = true;
  }

  onWritable(connection: Connection): void {
    const session = this.context.sessions.of(connection);
    if (session !== null) this.context.sessions.resume(session);
  }

  onClose(connection: Connection): void {
    const session = this.context.sessions.of(connection);
    if (session !== null) this.context.sessions.end(session);
  }

  /**
   * Ends all sessions, in the order in which nothing is lost: what was taken is committed and acknowledged, pushing
   * stops, positions are saved, then the notice and FIN. Listening must have stopped. After `ms` it goes on without
   * what it waits for, and resolves to false.
   */
  async drain(connections: Iterable<Connection>, ms: number): Promise<boolean> {
    const all = [...connections];
    const end = performance.now() + ms;
    const settled = async (left: (connection: Connection) => boolean): Promise<boolean> => {
      while (all.some(left) && performance.now() < end) await Bun.sleep(5);
      return !all.some(left);
    };
    /** A store that hangs may take half of the time left, not all of it. */
    const save = (work: Promise<unknown> | undefined) =>
      Promise.race([work, Bun.sleep(Math.max(ms / 10, (end - performance.now()) / 2))]);
    const { sessions, committer } = this.context;
    for (const connection of all) connection.stopReading();
    const answered = await settled((connection) => connection.state === "open" && connection.busy);
    sessions.delivery.stop();
    sessions.presence.stop();
    await save(sessions.cursors.saveAll());
    for (const connection of all)
      connection.finish(
        notice(Errno.shuttingDown, "the server is shutting down: connect again", { retryAfterMs: retryAfterMs() }),
      );
    const closed = await settled((connection) => connection.state !== "closed");
    // What the kernels have accepted so far need not be pushed again, and they are given no more.
    for (const connection of all) connection.giveUp();
    await save(sessions.saved());
    sessions.cursors.stop();
    await save(this.cluster?.close());
    committer.stop();
    return answered && closed;
  }

  private run(handler: Handler, request: Request): ReturnType<Handler["run"]> {
    // Without contact, other instances may have taken this boot over.
    if (this.cluster !== null && !this.cluster.alive && !handler.storeless)
      throw new ChatError(Errno.unavailable, "the server has lost contact with its database: try again");
    const session = this.context.sessions.of(request.connection);
    if (!handler.needsLogin) return handler.run(this.context, request, session);
    if (session === null || !session.ready)
      throw new ChatError(Errno.notLoggedIn, `msgId: log in (1002) before request ${request.message.msgId}`);
    return handler.run(this.context, request, session);
  }

  private async settle(request: Request, result: Promise<Reply | null>): Promise<void> {
    const timer = setTimeout(() => {
      this.log.error(
        `request ${request.message.msgId} of ${request.connection.remoteAddress} took too long: its connection is closed`,
      );
      this.refuse(request, new StoreError("timeout"));
      // Whatever the handler still does must not affect a connection that goes on.
      request.connection.retire("");
    }, REQUEST_TIMEOUT_MS);
    try {
      const reply = await result;
      clearTimeout(timer);
      if (reply !== null) this.reply(request, reply);
    } catch (error) {
      clearTimeout(timer);
      this.refuse(request, error);
    }
  }

  private reply(request: Request, { fields, afterwards }: Reply): void {
    const { connection, slot, message, reqId } = request;
    const text = answer(message.msgId, reqId, Errno.ok, fields);
    if (text.length * 3 <= MAX_FRAME_BYTES || Buffer.byteLength(text) <= MAX_FRAME_BYTES)
      return connection.answer(slot, text, afterwards);
    // A login whose answer cannot be sent has not begun.
    const session = this.context.sessions.of(connection);
    if (session !== null && !session.ready) this.context.sessions.end(session);
    this.refuse(request, new ChatError(Errno.tooLarge, "the answer is too large: request pages"));
  }

  /** Answers a failed request. A fault of the store or a bug is logged too, and answered with errno 19. */
  private refuse({ connection, slot, message, reqId }: Request, error: unknown): void {
    const { msgId } = message;
    let known = error;
    if (!(error instanceof ChatError)) {
      const { message: cause, stack } = error as Error;
      const where = `request ${msgId} of ${connection.remoteAddress}`;
      if (error instanceof StoreError) this.rateLimitedLog.error(`${where}: ${cause}`);
      else this.log.error(`${where}: ${stack}`);
      known = new ChatError(Errno.unavailable, "the server cannot do this now: try again later");
    }
    const { errno, errmsg, extra } = known as ChatError;
    connection.answer(slot, answer(msgId, reqId, errno, { mid: field.echoedMid(message), errmsg, ...extra }));
  }
}

const isShared = <S extends object>(store: S & Partial<Shared>): store is S & Shared => "leaseValid" in store;

/** For a connection above the limit: its first request is refused, and it ends. */
class Overload implements ConnectionEvents {
  private get fields(): JsonObject {
    return { errmsg: "the server is full: try again later", retryAfterMs: retryAfterMs() };
  }

  isBarrier(): boolean {
    return true;
  }

  onMessage(connection: Connection, slot: number, message: Message): void {
    const echo = { mid: field.echoedMid(message), ...this.fields };
    connection.answer(slot, answer(message.msgId, field.echoedReqId(message), Errno.rateLimited, echo));
    connection.finish();
  }

  onFault(connection: Connection, slot: number): void {
    connection.answer(slot, answer(0, undefined, Errno.rateLimited, this.fields));
    connection.finish();
  }

  onHalfClose(connection: Connection): void {
    connection.finish();
  }

  onWritable(): void {}

  onClose(): void {}
}
