// A connection's way in: what arrives is cut into requests, and these are taken in their order as far as order and limits
// allow; where they allow none, the socket is not read. Knows nothing of what requests mean.
import type { Socket } from "bun";
import { Errno, MAX_PROTOCOL_ERRORS, type Message } from "../protocol.ts";
import type { Answers } from "./answers.ts";
import type { ConnectionEvents, ConnectionLimits } from "./callbacks.ts";
import { Decoder, type Framing } from "./codec.ts";
import type { Connection } from "./connection.ts";
import { Fault } from "./json.ts";
import { ProxyFault, ProxyHeader } from "./proxy.ts";

/** How long a first object that might get a terminator is waited for. */
const TERMINATOR_WAIT_MS = 50;

export class Intake {
  /** The client's, as a proxy says; "" where it is the socket's. */
  clientAddress = "";
  /** When the peer's FIN came, by performance.now(); null before. */
  peerEndedAt: number | null = null;

  /** Comes before the first message; null: none does, or it has come. */
  private proxyHeader: ProxyHeader | null;
  private readonly decoder: Decoder;
  /** A barrier request that waits for the answers before it. */
  private waiting: Message | null = null;
  /** A barrier request is under way. */
  private blocked = false;
  private paused = false;
  private pumping = false;
  private halfCloseTold = false;
  /** The last request (a fault that ends the connection) has been taken. */
  private lastTaken = false;
  /** To be sent behind the last answer. */
  private lastText = "";
  private protocolErrors = 0;
  private terminatorTimer: Timer | null = null;

  /** `answers`: of the requests that are taken. */
  constructor(
    private readonly connection: Connection,
    private readonly socket: Socket<Connection>,
    private readonly answers: Answers,
    private readonly events: ConnectionEvents,
    private readonly limits: ConnectionLimits,
  ) {
    this.proxyHeader = limits.proxy === null ? null : new ProxyHeader();
    this.decoder = new Decoder(limits.maxFrameBytes);
  }

  get framing(): Framing {
    return this.decoder.framing;
  }

  get awaitsProxyHeader(): boolean {
    return this.proxyHeader !== null;
  }

  take(chunk: Buffer): void {
    const input = this.proxyHeader === null ? chunk : this.takeProxyHeader(this.proxyHeader, chunk);
    if (input === null) return;
    this.decoder.push(input);
    this.pump();
  }

  /** The peer sends no more: a first object that waits for its terminator gets none. */
  takeEnd(): void {
    if (this.decoder.holding) this.releaseHeld();
    this.pump();
  }

  /** Takes as many requests as order and limits allow, and stops reading the socket while they allow none. */
  pump(): void {
    if (this.pumping || this.connection.state !== "open") return;
    this.pumping = true;
    if (this.answers.size === 0) this.takeWaiting();
    while (this.canTake) {
      const next = this.decoder.next();
      if (next === null) break;
      this.takeNext(next);
    }
    this.pumping = false;
    if (this.connection.state !== "open") return;
    if (this.lastTaken && this.answers.size === 0) return this.connection.finish(this.lastText);
    // Behind a barrier the socket is read until something comes: who hangs up meanwhile is noticed.
    if (this.canTake || (this.blocked && this.connection.writable && this.decoder.bufferedBytes === 0)) this.resume();
    else this.pause();
    if (this.decoder.holding) this.terminatorTimer ??= setTimeout(() => this.releaseHeld(), TERMINATOR_WAIT_MS);
    else this.stopTimer();
    this.tellHalfClose();
  }

  /** All requests that were taken are answered: a barrier is behind. */
  unblock(): void {
    this.blocked = false;
  }

  /** Takes nothing more, and drops what has come. */
  stop(): void {
    this.decoder.end();
    this.waiting = null;
    this.stopTimer();
  }

  /** `stop`; when what was asked is answered, the connection finishes with `lastText`. */
  retire(lastText: string): void {
    this.stop();
    this.lastTaken = true;
    this.lastText = lastText;
    this.pump();
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.socket.resume();
  }

  private pause(): void {
    if (this.paused || this.peerEndedAt !== null) return;
    this.paused = true;
    this.socket.pause();
  }

  private get canTake(): boolean {
    return (
      this.connection.writable &&
      !this.lastTaken &&
      !this.blocked &&
      this.waiting === null &&
      this.answers.size < this.limits.maxInFlight
    );
  }

  /** Null while the header is not complete, and where it is refused; else what follows it. */
  private takeProxyHeader(header: ProxyHeader, chunk: Buffer): Buffer | null {
    const result = header.push(chunk);
    if (result instanceof ProxyFault) this.connection.refuseProxy(result.reason);
    if (result === null || result instanceof ProxyFault) return null;
    this.proxyHeader = null;
    this.clientAddress = result.address ?? "";
    return result.rest;
  }

  private takeWaiting(): void {
    const message = this.waiting;
    this.waiting = null;
    if (message !== null) this.takeNext(message);
  }

  private takeNext(next: Message | Fault): void {
    if (next instanceof Fault) return this.takeFault(next);
    const barrier = this.events.isBarrier(next);
    if (barrier && this.answers.size > 0) {
      this.waiting = next;
      return;
    }
    this.blocked = barrier;
    this.events.onMessage(this.connection, this.answers.reserve(), next);
  }

  private takeFault(fault: Fault): void {
    const last = fault.errno === Errno.tooLarge || ++this.protocolErrors >= MAX_PROTOCOL_ERRORS;
    this.events.onFault(this.connection, this.answers.reserve(), fault);
    // What was asked before is answered first.
    if (last) {
      this.decoder.end();
      this.lastTaken = true;
    }
  }

  private releaseHeld(): void {
    this.stopTimer();
    const held = this.decoder.releaseHeld();
    if (held !== null && this.connection.state === "open") this.takeNext(held);
    this.pump();
  }

  private tellHalfClose(): void {
    if (this.peerEndedAt === null || this.halfCloseTold) return;
    if (!this.canTake || this.answers.size > 0 || this.decoder.holding) return;
    this.halfCloseTold = true;
    this.events.onHalfClose(this.connection);
  }

  private stopTimer(): void {
    if (this.terminatorTimer !== null) clearTimeout(this.terminatorTimer);
    this.terminatorTimer = null;
  }
}
