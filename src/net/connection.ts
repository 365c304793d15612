// One socket, from accept to orderly close: `intake` takes its requests; `output` sends answers, in order, and pushes
// between them; backpressure works in both directions. Knows nothing of users or of what messages mean.
import type { Socket } from "bun";
import { type AnswerSink, Answers } from "./answers.ts";
import type { ConnectionEvents, ConnectionLimits } from "./callbacks.ts";
import type { Framing } from "./codec.ts";
import type { Outgoing } from "./encode.ts";
import { Intake } from "./intake.ts";
import { type Mark, Output } from "./output.ts";

/** Output this far above the high-water mark (answers to what was read before it) closes the connection. */
const HARD_LIMIT_BYTES = 17 * 1024 * 1024;
/** How long a peer's remaining input is discarded before the close: closing with unread input would send a reset. */
const LINGER_MS = 1_000;

/** open: serving; ending: flushing output, then FIN; lingering: FIN is sent, input is discarded; closed: gone. */
type State = "open" | "ending" | "lingering" | "closed";

let dirty: Connection[] = [];

/** At the end of a turn of the event loop: everything written in it leaves, in one write per connection. */
function flushDirty(): void {
  const connections = dirty;
  dirty = [];
  for (const connection of connections) connection.flush();
}

export class Connection implements AnswerSink {
  state: State = "open";
  /** When the last byte was received: performance.now(). */
  inputAt = performance.now();
  /** Since when nobody is logged in here, performance.now(); null while somebody is. Maintained by the service. */
  anonymousSince: number | null = this.inputAt;
  /** Set by the service: silence longer than the idle timeout ends the connection. */
  idleTimeoutApplies = false;
  /** The TLS handshake is not complete: nothing can be written, so a last message must not delay the close. */
  handshakePending = false;

  private readonly answers = new Answers();
  private readonly intake: Intake;
  private readonly output: Output;
  /** Answers given in this turn may have made room for more requests. */
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

  /** The client's address, also behind a proxy. */
  get remoteAddress(): string {
    return this.intake.clientAddress || this.socket.remoteAddress;
  }

  get awaitsProxyHeader(): boolean {
    return this.intake.awaitsProxyHeader && this.state === "open";
  }

  /** When the peer's FIN arrived, performance.now(); null before. */
  get peerEndedAt(): number | null {
    return this.intake.peerEndedAt;
  }

  /** Whether to push now: open, and not congested since output rose above the high-water mark. */
  get writable(): boolean {
    return this.state === "open" && !this.congested;
  }

  /** Whether requests are unanswered. */
  get busy(): boolean {
    return this.answers.size > 0;
  }

  /** Whether output is pending and the peer has accepted none for longer than the write timeout. */
  isStalled(now: number): boolean {
    return this.output.pendingBytes > 0 && now - this.output.progressAt > this.limits.writeTimeoutMs;
  }

  /** Sends an unsolicited message. `mark` is notified with `seq` when the kernel has accepted it. */
  push(message: Outgoing, mark: Mark | null = null, seq = 0): void {
    if (this.state === "open") this.write(message, mark, seq);
  }

  /**
   * Answers the request in `slot` ("": with nothing). It leaves when all earlier requests have their answers. A
   * barrier's `afterwards` runs right after its answer is written, before the next request is taken.
   */
  answer(slot: number, message: Outgoing, afterwards?: () => void): void {
    if (this.state !== "open") return;
    if (!this.answers.fill(slot, message, this)) return;
    if (this.answers.size === 0) this.intake.unblock();
    afterwards?.();
    // Once for all answers of this turn, not for each: the requests that follow are taken, and so stored, together.
    this.pumpDue = true;
    this.markDirty();
  }

  /**
   * Ends in good order: no more requests are taken; pending output leaves, then `lastText`, then FIN; the peer's input
   * is discarded until its FIN, or for one second. Unanswered requests stay unanswered.
   */
  finish(lastText = ""): void {
    if (this.state !== "open") return;
    if (lastText !== "" && !this.handshakePending) this.write(lastText, null, 0);
    this.state = "ending";
    this.intake.stop();
    this.intake.resume();
    this.events.onClose(this);
    this.markDirty();
  }

  /** Like `finish`, but drops output that the kernel has not accepted yet; what it has accepted still arrives. */
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

  /** Takes no more requests; those already taken are still answered. */
  stopReading(): void {
    if (this.state === "open") this.intake.stop();
  }

  /** Takes no more requests, and finishes with `lastText` once those already taken are answered. */
  retire(lastText: string): void {
    if (this.state === "open") this.intake.retire(lastText);
  }

  /** Notifies `mark` when the kernel has accepted the last message written. To be called in the turn of that write. */
  markLast(mark: Mark): void {
    this.output.markLast(mark);
  }

  /** Resolves to true when the kernel has accepted everything written so far, to false when it never will. */
  whenFlushed(): Promise<boolean> {
    return this.output.whenFlushed();
  }

  handleData(chunk: Buffer): void {
    if (this.state !== "open") return;
    this.inputAt = performance.now();
    this.intake.take(chunk);
  }

  /** Resets a connection whose client no trusted proxy has named; unanswered, because its framing is not known yet. */
  refuseProxy(reason: string): void {
    this.limits.proxy?.onRefused(this.remoteAddress, reason);
    this.terminate();
  }

  /** The peer has sent FIN: it sends no more, but may still read. */
  handleEnd(): void {
    this.intake.peerEndedAt ??= performance.now();
    if (this.state === "lingering") this.end();
    else if (this.awaitsProxyHeader) this.refuseProxy("ended before its PROXY header");
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

  /** Writes pending output to the socket. Called at the end of a turn, and when the kernel has room again (drain). */
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

  /** Called by `answers`, in the order of the requests. */
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
