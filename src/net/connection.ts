// One socket, from its accept to its orderly end: requests come in by `intake`, answers leave in their order, and pushes
// between them, by `output`; backpressure goes in both directions. Knows nothing of users or of what messages mean.
import type { Socket } from "bun";
import { type AnswerSink, Answers } from "./answers.ts";
import type { ConnectionEvents, ConnectionLimits } from "./callbacks.ts";
import type { Framing } from "./codec.ts";
import type { Outgoing } from "./encode.ts";
import { Intake } from "./intake.ts";
import { type Mark, Output } from "./output.ts";

/** Output above the high-water mark by this much (answers to what was read before): the connection is closed. */
const HARD_LIMIT_BYTES = 17 * 1024 * 1024;
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
  /** Hands are not shaken yet: nothing can be written, and there is nobody to wait for. */
  mute = false;

  private readonly answers = new Answers();
  private readonly intake: Intake;
  private readonly output: Output;
  /** Answers of this turn may have made room for requests. */
  private pumpDue = false;
  private isDirty = false;
  private congested = false;
  private lingerTimer: Timer | null = null;

  constructor(
    private readonly socket: Socket<Connection>,
    private readonly events: ConnectionEvents,
    private readonly limits: ConnectionLimits,
  ) {
    this.intake = new Intake(this, socket, this.answers, events, limits);
    this.output = new Output(socket);
  }

  get framing(): Framing {
    return this.intake.framing;
  }

  /** The client's, also behind a proxy. */
  get remoteAddress(): string {
    return this.intake.clientAddress || this.socket.remoteAddress;
  }

  get awaitsProxyHeader(): boolean {
    return this.intake.awaitsProxyHeader && this.state === "open";
  }

  /** When the peer's FIN came, by performance.now(); null before. */
  get peerEndedAt(): number | null {
    return this.intake.peerEndedAt;
  }

  /** Whether a push would be taken now. */
  get writable(): boolean {
    return this.state === "open" && !this.congested;
  }

  /** Whether requests wait for their answers. */
  get busy(): boolean {
    return this.answers.size > 0;
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
    if (this.answers.size === 0) this.intake.unblock();
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
    if (lastText !== "" && !this.mute) this.write(lastText, null, 0);
    this.state = "ending";
    this.intake.stop();
    this.intake.resume();
    this.events.onClose(this);
    this.markDirty();
  }

  /** As `finish`, without what the kernel has not accepted yet; what it has, arrives. */
  giveUp(): void {
    this.finish();
    if (this.state === "ending") this.linger();
  }

  /** Ends at once, with a reset. */
  terminate(): void {
    if (this.state === "closed") return;
    this.socket.terminate();
    this.handleClose();
  }

  /** Stops taking requests; those taken are answered. */
  stopReading(): void {
    if (this.state === "open") this.intake.stop();
  }

  /** `finish`, after what was asked is answered. */
  retire(lastText: string): void {
    if (this.state === "open") this.intake.retire(lastText);
  }

  /** `mark` is told when the kernel has accepted what was written last. To be called in the turn of that write. */
  markLast(mark: Mark): void {
    this.output.markLast(mark);
  }

  /** Settles with true when the kernel has accepted everything written so far, with false when it never will. */
  whenFlushed(): Promise<boolean> {
    return this.output.whenFlushed();
  }

  handleData(chunk: Buffer): void {
    if (this.state !== "open") return;
    this.inputAt = performance.now();
    this.intake.take(chunk);
  }

  /** Ends a connection of which nobody trusted says whose it is: at once, because no framing is known to answer in. */
  refuseProxy(reason: string): void {
    this.limits.proxy?.onRefused(this.remoteAddress, reason);
    this.terminate();
  }

  /** FIN: the peer sends no more, and may still read. */
  handleEnd(): void {
    this.intake.peerEndedAt ??= performance.now();
    if (this.state === "lingering") this.end();
    else if (this.awaitsProxyHeader) this.refuseProxy("it ended before its PROXY header");
    else if (this.state === "open") this.intake.takeEnd();
  }

  handleClose(): void {
    if (this.state === "closed") return;
    const wasOpen = this.state === "open";
    this.state = "closed";
    if (this.lingerTimer !== null) clearTimeout(this.lingerTimer);
    this.intake.stop();
    this.output.discard();
    this.answers.clear();
    if (wasOpen) this.events.onClose(this);
  }

  /** Writes what waits to the socket. Called once at the end of a turn, and when the kernel has room again. */
  flush(): void {
    this.isDirty = false;
    if (this.pumpDue) {
      this.pumpDue = false;
      this.intake.pump();
    }
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
      this.intake.pump();
    }
  }

  /** For `answers`: the next one's turn has come. */
  writeAnswer(message: Outgoing): void {
    this.write(message, null, 0);
  }

  private write(message: Outgoing, mark: Mark | null, seq: number): void {
    this.output.framing = this.intake.framing;
    this.output.add(message, mark, seq);
    if (this.output.pendingBytes > this.limits.highWaterBytes) this.congested = true;
    this.markDirty();
  }

  private markDirty(): void {
    if (this.isDirty) return;
    this.isDirty = true;
    if (dirty.push(this) === 1) setImmediate(flushDirty);
  }

  private linger(): void {
    this.state = "lingering";
    this.output.discard();
    this.socket.shutdown();
    if (this.peerEndedAt !== null) this.end();
    else this.lingerTimer = setTimeout(() => this.end(), LINGER_MS);
  }

  private end(): void {
    this.socket.end();
    this.handleClose();
  }
}
