// One socket: the order of its requests and answers, backpressure in both directions, and its orderly end.
// Knows nothing of users or of what messages mean.
import type { Socket } from "bun";
import { Errno, MAX_PROTOCOL_ERRORS, type Message } from "../protocol.ts";
import { type AnswerSink, Answers } from "./answers.ts";
import type { ConnectionEvents, ConnectionLimits } from "./callbacks.ts";
import { Decoder, type Framing } from "./codec.ts";
import type { Outgoing } from "./encode.ts";
import { Fault } from "./json.ts";
import { type Mark, Output } from "./output.ts";
import { ProxyFault, ProxyHeader } from "./proxy.ts";

/** Output above the high-water mark by this much (answers to what was read before): the connection is closed. */
const HARD_LIMIT_BYTES = 17 * 1024 * 1024;
/** How long a first object that might get a terminator is waited for. */
const TERMINATOR_WAIT_MS = 50;
/** How long the rest of a peer's input is discarded before the close; closing with unread input would reset it. */
const LINGER_MS = 1_000;

/** open: serving; ending: output is flushed, then FIN; lingering: FIN is sent, input is discarded; closed: gone. */
type State = "open" | "ending" | "lingering" | "closed";

let dirty: Connection[] = [];

/** Ends the turn of the loop: everything written meanwhile leaves, in one write a connection. */
function flushDirty(): void {
  const connections = dirty;
  dirty = [];
  for (const connection of connections) connection.flush();
}

export class Connection implements AnswerSink {
  state: State = "open";
  /** performance.now() of the last received byte. */
  inputAt = performance.now();
  /** Since when nobody is logged in here, performance.now(); null while somebody is. Kept by the owner. */
  anonymousSince: number | null = this.inputAt;
  /** Set by the owner: silence ends the connection after the idle timeout. */
  heartbeats = false;

  /** Comes before the first message; null: none does, or it has come. */
  private proxyHeader: ProxyHeader | null;
  /** As the proxy says; "" where it is the socket's. */
  private clientAddress = "";
  private readonly decoder: Decoder;
  private readonly output: Output;
  private readonly answers = new Answers();
  /** A barrier request that waits for the answers before it. */
  private waiting: Message | null = null;
  /** A barrier request is under way. */
  private blocked = false;
  private paused = false;
  private pumping = false;
  /** Answers of this turn may have made room for requests. */
  private pumpDue = false;
  private isDirty = false;
  private congested = false;
  /** When the peer's FIN came, by performance.now(); null before. */
  peerEndedAt: number | null = null;
  private halfCloseTold = false;
  /** The last request (a fault that ends the connection) has been taken. */
  private lastTaken = false;
  /** To be sent behind the last answer. */
  private lastText = "";
  private protocolErrors = 0;
  private timer: Timer | null = null;

  constructor(
    private readonly socket: Socket<Connection>,
    private readonly events: ConnectionEvents,
    private readonly limits: ConnectionLimits,
  ) {
    this.proxyHeader = limits.proxy === null ? null : new ProxyHeader();
    this.decoder = new Decoder(limits.maxFrameBytes);
    this.output = new Output(socket);
  }

  get framing(): Framing {
    return this.decoder.framing;
  }

  /** The client's, also behind a proxy. */
  get remoteAddress(): string {
    return this.clientAddress || this.socket.remoteAddress;
  }

  get awaitsProxyHeader(): boolean {
    return this.proxyHeader !== null && this.state === "open";
  }

  /** Whether a push would be taken now. */
  get writable(): boolean {
    return this.state === "open" && !this.congested;
  }

  /** Whether output has waited for a peer that takes nothing. */
  isStalled(now: number): boolean {
    return this.output.pendingBytes > 0 && now - this.output.progressAt > this.limits.writeTimeoutMs;
  }

  /** Sends an unasked message. `mark` is told when the kernel has accepted it. */
  push(message: Outgoing, mark: Mark | null = null, seq = 0): void {
    if (this.state === "open") this.write(message, mark, seq);
  }

  /**
   * Gives the request in `slot` its answer ("": none); it leaves when all earlier requests have theirs. `afterwards`
   * (of a barrier) runs behind it, before the next request is taken.
   */
  answer(slot: number, message: Outgoing, afterwards?: () => void): void {
    if (this.state !== "open") return;
    if (!this.answers.fill(slot, message, this)) return;
    if (this.answers.size === 0) this.blocked = false;
    afterwards?.();
    // Once for all answers of this turn, not for each: what follows is taken together, and so stored together.
    this.pumpDue = true;
    this.markDirty();
  }

  /**
   * Ends in good order: no more requests are taken, what is written leaves (with `lastText` behind it), then FIN; the
   * peer's input is discarded until its FIN, or for one second. Unanswered requests stay unanswered.
   */
  finish(lastText = ""): void {
    if (this.state !== "open") return;
    if (lastText !== "") this.write(lastText, null, 0);
    this.state = "ending";
    this.decoder.end();
    this.waiting = null;
    this.stopTimer();
    this.resume();
    this.events.onClose(this);
    this.markDirty();
  }

  /** Ends at once, with a reset. */
  terminate(): void {
    if (this.state === "closed") return;
    this.socket.terminate();
    this.handleClose();
  }

  /** Stops taking requests; those taken are answered. */
  stopReading(): void {
    if (this.state !== "open") return;
    this.decoder.end();
    this.waiting = null;
    this.stopTimer();
  }

  /** `finish`, after what was asked is answered. */
  retire(lastText: string): void {
    this.stopReading();
    this.lastTaken = true;
    this.lastText = lastText;
    this.pump();
  }

  /** Settles with true when the kernel has accepted everything written so far, with false when it never will. */
  whenFlushed(): Promise<boolean> {
    return this.output.whenFlushed();
  }

  /** Whether requests wait for their answers. */
  get busy(): boolean {
    return this.answers.size > 0;
  }

  handleData(chunk: Buffer): void {
    if (this.state !== "open") return;
    this.inputAt = performance.now();
    const input = this.proxyHeader === null ? chunk : this.takeProxyHeader(this.proxyHeader, chunk);
    if (input === null) return;
    this.decoder.push(input);
    this.pump();
  }

  /** Ends a connection of which nobody trusted says whose it is: at once, because no framing is known to answer in. */
  refuseProxy(reason: string): void {
    this.limits.proxy?.onRefused(this.remoteAddress, reason);
    this.terminate();
  }

  /** FIN: the peer sends no more, and may still read. */
  handleEnd(): void {
    this.peerEndedAt ??= performance.now();
    if (this.state === "lingering") this.end();
    else if (this.state === "open") {
      if (this.awaitsProxyHeader) return this.refuseProxy("it ended before its PROXY header");
      if (this.decoder.holding) this.releaseHeld();
      this.pump();
    }
  }

  handleDrain(): void {
    this.flush();
  }

  handleClose(): void {
    if (this.state === "closed") return;
    const wasOpen = this.state === "open";
    this.state = "closed";
    this.stopTimer();
    this.decoder.end();
    this.output.discard();
    this.answers.clear();
    this.waiting = null;
    if (wasOpen) this.events.onClose(this);
  }

  /** Writes what waits to the socket. Called once at the end of a turn, and when the kernel has room again. */
  flush(): void {
    this.isDirty = false;
    if (this.pumpDue) this.pump();
    if (this.state === "closed" || this.state === "lingering") return;
    const empty = this.output.flush();
    if (this.state === "ending") {
      if (empty) this.linger();
      return;
    }
    const { pendingBytes } = this.output;
    if (pendingBytes > this.limits.highWaterBytes + HARD_LIMIT_BYTES) return this.terminate();
    if (this.congested && pendingBytes <= this.limits.highWaterBytes / 2) {
      this.congested = false;
      this.events.onWritable(this);
      this.pump();
    }
  }

  /** For `answers`: the next one's turn has come. */
  writeAnswer(message: Outgoing): void {
    this.write(message, null, 0);
  }

  private write(message: Outgoing, mark: Mark | null, seq: number): void {
    this.output.framing = this.decoder.framing;
    this.output.add(message, mark, seq);
    if (this.output.pendingBytes > this.limits.highWaterBytes) this.congested = true;
    this.markDirty();
  }

  private markDirty(): void {
    if (this.isDirty) return;
    this.isDirty = true;
    if (dirty.push(this) === 1) setImmediate(flushDirty);
  }

  private get canTake(): boolean {
    return (
      this.state === "open" &&
      !this.lastTaken &&
      !this.blocked &&
      !this.congested &&
      this.waiting === null &&
      this.answers.size < this.limits.maxInFlight
    );
  }

  /** Takes as many requests as order and limits allow, and stops reading the socket while they allow none. */
  private pump(): void {
    if (this.pumping || this.state !== "open") return;
    this.pumping = true;
    this.pumpDue = false;
    if (this.waiting !== null && this.answers.size === 0) {
      const message = this.waiting;
      this.waiting = null;
      this.take(message);
    }
    while (this.canTake) {
      const next = this.decoder.next();
      if (next === null) break;
      this.take(next);
    }
    this.pumping = false;
    if (this.state !== "open") return;
    if (this.lastTaken && !this.busy) return this.finish(this.lastText);
    // Behind a barrier the socket is read until something comes: who hangs up meanwhile is noticed.
    if (this.canTake || (this.blocked && !this.congested && this.decoder.bufferedBytes === 0)) this.resume();
    else this.pause();
    if (this.decoder.holding) this.timer ??= setTimeout(() => this.releaseHeld(), TERMINATOR_WAIT_MS);
    else this.stopTimer();
    if (this.peerEndedAt !== null && !this.halfCloseTold && this.canTake && !this.busy && !this.decoder.holding) {
      this.halfCloseTold = true;
      this.events.onHalfClose(this);
    }
  }

  /** Null while the header is not complete, and where it is refused; else what follows it. */
  private takeProxyHeader(header: ProxyHeader, chunk: Buffer): Buffer | null {
    const result = header.push(chunk);
    if (result instanceof ProxyFault) this.refuseProxy(result.reason);
    if (result === null || result instanceof ProxyFault) return null;
    this.proxyHeader = null;
    this.clientAddress = result.address ?? "";
    return result.rest;
  }

  private take(next: Message | Fault): void {
    if (next instanceof Fault) return this.takeFault(next);
    const barrier = this.events.isBarrier(next);
    if (barrier && this.answers.size > 0) {
      this.waiting = next;
      return;
    }
    this.blocked = barrier;
    this.events.onMessage(this, this.answers.reserve(), next);
  }

  private takeFault(fault: Fault): void {
    const last = fault.errno === Errno.tooLarge || ++this.protocolErrors >= MAX_PROTOCOL_ERRORS;
    this.events.onFault(this, this.answers.reserve(), fault);
    // What was asked before is answered first.
    if (last) {
      this.decoder.end();
      this.lastTaken = true;
    }
  }

  private releaseHeld(): void {
    this.stopTimer();
    const held = this.decoder.releaseHeld();
    if (held !== null && this.state === "open") this.take(held);
    this.pump();
  }

  private pause(): void {
    if (this.paused || this.peerEndedAt !== null) return;
    this.paused = true;
    this.socket.pause();
  }

  private resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.socket.resume();
  }

  private linger(): void {
    this.state = "lingering";
    this.output.discard();
    this.socket.shutdown();
    if (this.peerEndedAt !== null) this.end();
    else this.timer = setTimeout(() => this.end(), LINGER_MS);
  }

  private end(): void {
    this.socket.end();
    this.handleClose();
  }

  private stopTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}
