// Maintains a connection: opens it, detects when it is dead, opens another one after a pause. Matches answers to
// requests. Knows nothing of who is logged in.
import { type JsonObject, type Message, MsgId } from "../protocol.ts";
import { Backoff } from "./backoff.ts";
import { type Asked, InFlight, isAnswer } from "./in-flight.ts";
import { type Address, Link } from "./link.ts";

export interface ConnectorOptions extends Address {
  connectTimeoutMs: number;
  /** For every request except sends, which are retried until acknowledged. Includes the wait for a connection. */
  requestTimeoutMs: number;
  /** Interval between heartbeats. */
  heartbeatMs: number;
  /** A connection on which nothing arrives for this long, although something should, is given up. */
  silenceMs: number;
  /** Pauses between attempts to reconnect grow from `retryMinMs` to `retryMaxMs`. */
  retryMinMs: number;
  retryMaxMs: number;
}

export interface ConnectorEvents {
  /** Whether a lost connection is to be reopened. */
  isKept(): boolean;
  onConnected(): void;
  onPush(message: Message): void;
  /** The connection is gone; requests in flight fail next. `retryInMs` is null where it is not reopened. */
  onLost(reason: string, retryInMs: number | null): void;
}

/** A connection that lasted this long does not count as a failed attempt. */
const STABLE_MS = 5_000;

export class Connector {
  private link: Link | null = null;
  /** Settles when the previous connection has ended. */
  private leaving: Promise<void> | undefined;
  private connecting: Promise<void> | null = null;
  private readonly inFlight = new InFlight();
  private readonly backoff: Backoff;
  private readonly stopped = new AbortController();
  private retryTimer: Timer | null = null;
  private ticker: Timer | null = null;
  private linkedAt = 0;
  private heartbeatAt = 0;
  private lastReqId = 0;

  constructor(
    private readonly options: ConnectorOptions,
    private readonly events: ConnectorEvents,
  ) {
    this.backoff = new Backoff(options.retryMinMs, options.retryMaxMs);
  }

  get isConnected(): boolean {
    return this.link !== null;
  }

  nextReqId(): number {
    return ++this.lastReqId;
  }

  /** Connects, unless connected. Throws ClientError "unreachable"; a connection to be kept is tried again later. */
  connect(): Promise<void> {
    if (this.link !== null) return Promise.resolve();
    this.connecting ??= this.open().finally(() => {
      this.connecting = null;
    });
    return this.connecting;
  }

  /** Writes a request as `text`; there must be a connection. */
  write(asked: Asked, text: string): void {
    this.inFlight.add(asked);
    this.link?.send(text);
  }

  /** Writes a request of the client itself. */
  ask(msgId: number, fields: JsonObject, settle: Asked["settle"]): void {
    const message = { msgId, ...fields, reqId: this.nextReqId() };
    this.write({ message, settle }, JSON.stringify(message));
  }

  /** The connection works: after the next break the first attempt comes soon. */
  succeeded(): void {
    this.backoff.reset();
  }

  /** Gives up the connection. If it is to be kept, it is reopened, after `retryAfterMs` at least. */
  drop(reason: string, retryAfterMs = 0): void {
    if (this.link === null) return;
    if (performance.now() - this.linkedAt >= STABLE_MS) this.backoff.reset();
    this.forgetLink();
    this.events.onLost(reason, this.events.isKept() ? this.retryLater(retryAfterMs) : null);
    this.inFlight.break();
  }

  /** Ends the connection in good order: requests are still answered; those that are not fail in the end. */
  async stop(): Promise<void> {
    this.stopped.abort();
    if (this.retryTimer !== null) clearTimeout(this.retryTimer);
    if (this.ticker !== null) clearInterval(this.ticker);
    await Promise.all([this.link?.finish(), this.leaving]);
    this.link = null;
    this.inFlight.break();
  }

  private async open(): Promise<void> {
    if (this.retryTimer !== null) clearTimeout(this.retryTimer);
    const { connectTimeoutMs, heartbeatMs, silenceMs } = this.options;
    const { signal } = this.stopped;
    try {
      this.link = await Link.open(this.options, connectTimeoutMs, signal, {
        // A connection that was given up may still deliver something.
        onMessage: (link, message) => {
          if (this.link === link) this.take(message);
        },
        onLost: (link, reason) => {
          if (this.link === link) this.drop(reason);
        },
      });
    } catch (error) {
      if (this.events.isKept() && !signal.aborted) this.retryLater(0);
      throw error;
    }
    this.linkedAt = this.heartbeatAt = performance.now();
    this.ticker = setInterval(() => this.tick(), Math.min(1_000, heartbeatMs, silenceMs / 2));
    this.events.onConnected();
  }

  private retryLater(retryAfterMs: number): number {
    const delay = this.backoff.next(retryAfterMs);
    this.retryTimer = setTimeout(() => this.connect().catch(() => undefined), delay);
    return delay;
  }

  private take(message: Message): void {
    if (isAnswer(message)) this.inFlight.take(message)?.settle(message);
    else this.events.onPush(message);
  }

  /** Sends heartbeats, because a half-open connection looks alive until something is sent, and detects silence. */
  private tick(): void {
    const { silenceMs, requestTimeoutMs, heartbeatMs } = this.options;
    if (this.inFlight.isOverdue(this.link!.progressAt, silenceMs, requestTimeoutMs)) {
      this.link!.terminate();
      return this.drop("the server does not answer");
    }
    if (performance.now() - this.heartbeatAt < heartbeatMs) return;
    this.heartbeatAt = performance.now();
    this.ask(MsgId.heartbeat, {}, () => undefined);
  }

  private forgetLink(): void {
    if (this.ticker !== null) clearInterval(this.ticker);
    this.leaving = this.link?.finish();
    this.link = null;
  }
}
