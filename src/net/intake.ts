// A connection's input side: cuts the bytes into requests and hands these on, in order, as far as ordering and limits
// allow; while they allow none, the socket is not read. Knows nothing of what requests mean.
import type { Socket } from "bun";
import { Errno, MAX_PROTOCOL_ERRORS, type Message } from "../protocol.ts";
import type { Answers } from "./answers.ts";
import type { ConnectionEvents, ConnectionLimits } from "./callbacks.ts";
import { Decoder, type Framing } from "./codec.ts";
import type { Connection } from "./connection.ts";
import { Fault } from "./json.ts";
import { ProxyFault, ProxyHeader } from "./proxy.ts";

/** How long a connection's first text object waits for a terminator that may still come. */
const TERMINATOR_WAIT_MS = 50;

export class Intake {
  /** The client's address as given by a proxy; "" where it is the socket's own. */
  clientAddress = "";
  /** When the peer's FIN arrived, performance.now(); null before. */
  peerEndedAt: number | null = null;

  /** The PROXY header that must precede the first message; null where none is expected or it has been read. */
  private proxyHeader: ProxyHeader | null;
  private readonly decoder: Decoder;
  /** A barrier request waiting for all earlier requests to be answered. */
  private waiting: Message | null = null;
  /** A barrier request is being served: no other is taken. */
  private blocked = false;
  private paused = false;
  private halfCloseTold = false;
  /** No more requests are taken; once those taken are answered, the connection finishes. */
  private retiring = false;
  /** Sent after the last answer. */
  private lastText = "";
  private protocolErrors = 0;
  private terminatorTimer: Timer | null = null;

  /** `answers` holds those of the requests taken here. */
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

  /** The peer has sent FIN: a first object that still waits for a terminator gets none. */
  takeEnd(): void {
    if (this.decoder.holding) this.releaseHeld();
    this.pump();
  }

  /** Takes as many requests as ordering and limits allow; pauses reading from the socket while they allow none. */
  pump(): void {
    if (this.connection.state !== "open") return;
    this.takeWaiting();
    while (this.canTake) {
      const next = this.decoder.next();
      if (next === null) break;
      this.takeNext(next);
    }
    if (this.connection.state !== "open") return;
    if (this.retiring && this.answers.size === 0) return this.connection.finish(this.lastText);
    // During a barrier the socket is read until something arrives, so that a peer that hangs up meanwhile is noticed.
    if (this.canTake || (this.blocked && this.connection.writable && this.decoder.bufferedBytes === 0)) this.resume();
    else this.pause();
    if (this.decoder.holding) this.terminatorTimer ??= setTimeout(() => this.releaseHeld(), TERMINATOR_WAIT_MS);
    else this.stopTimer();
    this.tellHalfClose();
  }

  /** All requests taken are answered: a barrier, if any, is over. */
  unblock(): void {
    this.blocked = false;
  }

  /** Takes nothing more, and drops what has arrived. */
  stop(): void {
    this.decoder.end();
    this.waiting = null;
    this.stopTimer();
  }

  /** `stop`; once the requests already taken are answered, the connection finishes with `lastText`. */
  retire(lastText: string): void {
    this.stop();
    this.retiring = true;
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
      !this.retiring &&
      !this.blocked &&
      this.waiting === null &&
      this.answers.size < this.limits.maxInFlight
    );
  }

  /** Returns what follows the header; null while the header is incomplete, and where it is refused. */
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
    // Earlier requests are still answered first.
    if (last) {
      this.decoder.end();
      this.retiring = true;
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
