// Messages sent but not acknowledged yet. Each is written again, in order and with the same mid, until the server
// acknowledges it or refuses it for good. Requests have their place in the order among them, and are written once.
import { ChatError, Errno, invalid, type JsonObject, MAX_FRAME_BYTES, type Message } from "../protocol.ts";
import { Backoff, retryAfterMs } from "./backoff.ts";
import { ClientError } from "./events.ts";
import type { Asked } from "./in-flight.ts";

/** An acknowledged message: it is stored, as `seq` of `conv`. */
export interface Ack {
  mid: string;
  conv: string;
  seq: number;
  time: string;
  ts: number;
}

export interface Queued {
  asked: Asked;
  text: string;
  reject(error: Error): void;
}

interface Send extends Queued {
  /** Its place in the order of sending. */
  order: number;
  resolve(ack: Ack): void;
}

type Request = Queued & { order: number };

/** Window of messages written but not answered: enough to fill the server's batches, little to resend. */
const WINDOW_SENDS = 512;
const WINDOW_TEXT = 1024 * 1024;
/** Transient failures: the same request is worth another try. */
export const TRANSIENT: unknown[] = [Errno.unavailable, Errno.rateLimited, Errno.shuttingDown];

export class Outbox {
  /** Logged in: messages may be written. Otherwise they wait. */
  private isOpen = false;
  private readonly all = new Set<Send>();
  /** What is to be written (again), in its order while `sorted` is true. */
  private unwritten: (Send | Request)[] = [];
  private sorted = true;
  private inFlight = 0;
  private inFlightText = 0;
  private sent = 0;
  /** While it runs nothing is written: the server asked to wait. */
  private pause: Timer | null = null;
  private readonly backoff = new Backoff(200, 2_000);
  private emptyWaiters: (() => void)[] = [];

  constructor(
    private readonly limit: number,
    private readonly write: (asked: Asked, text: string) => void,
    /** Called for every acknowledgement. */
    private readonly onAck: () => void,
  ) {}

  get size(): number {
    return this.all.size;
  }

  /** Takes a message, with its `mid` and a fresh `reqId`. Rejects where it can never be sent, or too many wait. */
  add(message: Message & { msg: string; mid: string }): Promise<Ack> {
    if (this.all.size >= this.limit) return Promise.reject(tooMany(this.limit));
    // JSON could express it, but the server refuses text that is not well-formed.
    if (!message.msg.isWellFormed()) return Promise.reject(invalid("msg", "a lone surrogate is not a character"));
    const text = JSON.stringify(message);
    if (Buffer.byteLength(text) > MAX_FRAME_BYTES) return Promise.reject(tooLarge());
    const { promise, resolve, reject } = Promise.withResolvers<Ack>();
    const asked: Asked = { message, settle: (answer) => this.settle(send, answer) };
    const send: Send = { order: this.sent++, asked, text, resolve, reject };
    this.all.add(send);
    this.unwritten.push(send);
    this.pump();
    return promise;
  }

  /** Takes a request, to be written after what came before it. */
  addRequest(request: Queued): void {
    this.unwritten.push(Object.assign(request, { order: this.sent++ }));
    this.pump();
  }

  /** Removes a request that need not be written any more. */
  takeBack(request: Queued): void {
    if (this.unwritten.length > 0) this.unwritten = this.unwritten.filter((each) => each !== request);
  }

  /** Logged in: writes what waits. */
  open(): void {
    this.isOpen = true;
    this.pump();
  }

  /** No longer logged in. The connector settles what is in flight. */
  suspend(): void {
    this.isOpen = false;
  }

  /** Gives up all sends, and the requests not yet written. */
  fail(error: Error): void {
    const all = new Set<Queued>([...this.all, ...this.unwritten]);
    const sends = [...this.all];
    this.unwritten = [];
    this.endPause();
    for (const send of sends) this.remove(send);
    for (const { reject } of all) reject(error);
  }

  /** Resolves when no message is unacknowledged. */
  whenEmpty(): Promise<void> {
    if (this.all.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.emptyWaiters.push(resolve));
  }

  private pump(): void {
    if (!this.isOpen || this.pause !== null) return;
    if (!this.sorted) this.unwritten.sort((a, b) => a.order - b.order);
    this.sorted = true;
    let count = 0;
    for (const each of this.unwritten) {
      if (isSend(each)) {
        if (this.inFlight >= WINDOW_SENDS || this.inFlightText >= WINDOW_TEXT) break;
        this.inFlight++;
        this.inFlightText += each.text.length;
      }
      count++;
    }
    for (const { asked, text } of this.unwritten.splice(0, count)) this.write(asked, text);
  }

  private settle(send: Send, answer: Message | null): void {
    this.inFlight--;
    this.inFlightText -= send.text.length;
    // It has been given up meanwhile.
    if (!this.all.has(send)) return;
    if (answer === null) this.putBack(send);
    else if (answer.errno === Errno.ok) {
      this.backoff.reset();
      this.remove(send);
      const { conv, seq, time, ts } = answer as unknown as Ack;
      send.resolve({ mid: send.asked.message.mid as string, conv, seq, time, ts });
      this.onAck();
    } else if (TRANSIENT.includes(answer.errno)) {
      this.putBack(send);
      // Later messages wait too: they must not be stored before it.
      this.pause ??= setTimeout(() => this.endPause(), this.backoff.next(retryAfterMs(answer.retryAfterMs)));
    } else {
      this.remove(send);
      send.reject(errorOf(answer));
    }
    this.pump();
  }

  private putBack(send: Send): void {
    this.unwritten.push(send);
    this.sorted = false;
  }

  private remove(send: Send): void {
    this.all.delete(send);
    if (this.all.size > 0) return;
    const waiters = this.emptyWaiters;
    this.emptyWaiters = [];
    for (const resolve of waiters) resolve();
  }

  private endPause(): void {
    if (this.pause !== null) clearTimeout(this.pause);
    this.pause = null;
    this.pump();
  }
}

const isSend = (queued: Send | Request): queued is Send => "resolve" in queued;

/** A failed answer as an error. */
export function errorOf(answer: Message): ChatError {
  const { msgId: _, ack: __, reqId: ___, errno, errmsg, ...extra } = answer;
  return new ChatError(errno as number, typeof errmsg === "string" ? errmsg : `error ${errno}`, extra as JsonObject);
}

export const tooMany = (limit: number): ClientError =>
  new ClientError("full", `${limit} messages are already waiting for answers: await some of them before sending more`);

export const tooLarge = (): ChatError =>
  new ChatError(Errno.tooLarge, `message too large: a frame holds at most ${MAX_FRAME_BYTES} bytes`);
