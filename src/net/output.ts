// A connection's output side: messages gather until the end of the turn, then leave framed, in one write; what the
// kernel does not accept waits for `drain`. Notifies each push's mark when the kernel has accepted it.
import type { Framing } from "./codec.ts";
import { encode, type Outgoing, roomFor } from "./encode.ts";

/** Notified that the kernel has accepted everything up to and including the message `seq`. */
export interface Mark {
  accepted(seq: number): void;
}

interface Sink {
  /** Writes `length` bytes from `offset` on; returns how many were accepted, negative after the close. */
  write(bytes: Uint8Array, offset: number, length: number): number;
}

/** One write's messages are encoded here; a longer message gets its own buffer. Shared by this thread's connections. */
const scratch = Buffer.allocUnsafeSlow(256 * 1024);

/** The messages in `scratch`, and where each ends: a group's push is encoded once and reused for all its members. */
const held: Outgoing[] = [];
const heldEnds: number[] = [];
let heldFraming: Framing = "lf";

/** Encodes messages from index `from` on, as many as fit in `scratch`; returns the index after the last of them. */
function encodeSome(messages: Outgoing[], from: number, framing: Framing): number {
  let same = 0;
  if (framing === heldFraming) while (same < held.length && held[same] === messages[from + same]) same++;
  heldFraming = framing;
  held.length = heldEnds.length = same;
  let end = same === 0 ? 0 : heldEnds[same - 1]!;
  let to = from + same;
  for (; to < messages.length && end + roomFor(messages[to]!) <= scratch.length; to++) {
    end = encode(messages[to]!, framing, scratch, end);
    held.push(messages[to]!);
    heldEnds.push(end);
  }
  return to;
}

/** Messages not encoded yet, each with its mark and seq. */
class Waiting {
  readonly messages: Outgoing[] = [];
  readonly marks: (Mark | null)[] = [];
  readonly seqs: number[] = [];

  empty(): this {
    this.messages.length = this.marks.length = this.seqs.length = 0;
    return this;
  }
}

/** For reuse by any connection: allocating new lists for each flush costs as much as several messages. */
const spares: Waiting[] = [];
const MAX_SPARES = 256;
/** Lists that held more are not reused, because they keep their memory. */
const SPARE_MESSAGES = 64;

/** Encoded, but not accepted by the kernel. */
interface Unsent {
  bytes: Buffer;
  /** The marks of its messages, each with the number of bytes after which its message is accepted. */
  marks: { end: number; mark: Mark; seq: number }[];
}

export class Output {
  framing: Framing = "lf";
  /** When the kernel last accepted something or output became pending: performance.now(). */
  progressAt = performance.now();

  /** Null when empty, like the next ones: most connections have nothing to send, and empty lists take memory too. */
  private waiting: Waiting | null = null;
  private textLength = 0;
  private unsent: Unsent | null = null;
  private flushed: PromiseWithResolvers<boolean> | null = null;

  constructor(private readonly sink: Sink) {}

  /** Approximate number of bytes pending. */
  get pendingBytes(): number {
    return this.textLength + (this.unsent?.bytes.length ?? 0);
  }

  add(message: Outgoing, mark: Mark | null, seq: number): void {
    if (this.pendingBytes === 0) this.progressAt = performance.now();
    this.waiting ??= spares.pop() ?? new Waiting();
    this.waiting.messages.push(message);
    this.waiting.marks.push(mark);
    this.waiting.seqs.push(seq);
    this.textLength += message.length;
  }

  /** Notifies `mark` when the message added last is accepted. */
  markLast(mark: Mark): void {
    const marks = this.waiting?.marks;
    if (marks !== undefined) marks[marks.length - 1] = mark;
  }

  /** Writes until everything is out (returns true) or the kernel accepts no more (false). */
  flush(): boolean {
    if (this.unsent !== null && !this.writeUnsent(this.unsent)) return false;
    if (this.waiting !== null) this.writeWaiting(this.waiting);
    if (this.unsent !== null) return false;
    this.settle(true);
    return true;
  }

  /** Resolves to true when the kernel has accepted everything added so far, to false when it never will. */
  whenFlushed(): Promise<boolean> {
    if (this.pendingBytes === 0) return Promise.resolve(true);
    this.flushed ??= Promise.withResolvers();
    return this.flushed.promise;
  }

  /** Drops pending output: for a connection that is gone. */
  discard(): void {
    this.waiting = null;
    this.textLength = 0;
    this.unsent = null;
    this.settle(false);
  }

  private settle(accepted: boolean): void {
    this.flushed?.resolve(accepted);
    this.flushed = null;
  }

  private writeWaiting(waiting: Waiting): void {
    const { messages, marks, seqs } = waiting;
    let from = 0;
    while (from < messages.length && this.unsent === null) from = this.writeSome(waiting, from);
    if (from === messages.length) {
      this.waiting = null;
      this.textLength = 0;
      if (spares.length < MAX_SPARES && from <= SPARE_MESSAGES) spares.push(waiting.empty());
      return;
    }
    for (let i = 0; i < from; i++) this.textLength -= messages[i]!.length;
    messages.splice(0, from);
    marks.splice(0, from);
    seqs.splice(0, from);
  }

  /** Encodes and writes messages from index `from` on, as many as one buffer holds; returns where the rest starts. */
  private writeSome({ messages, marks, seqs }: Waiting, from: number): number {
    const room = roomFor(messages[from]!);
    const alone = room > scratch.length ? Buffer.allocUnsafe(room) : null;
    const out = alone ?? scratch;
    const to = alone === null ? encodeSome(messages, from, this.framing) : from + 1;
    const ends = alone === null ? heldEnds : [encode(messages[from]!, this.framing, alone, 0)];
    const end = ends.at(-1)!;
    // Offset and length, not a subarray: a view per write would be garbage to collect.
    const accepted = Math.max(0, this.sink.write(out, 0, end));
    if (accepted > 0) this.progressAt = performance.now();
    if (accepted < end) this.unsent = { bytes: Buffer.from(out.subarray(accepted, end)), marks: [] };
    for (let i = from; i < to; i++) {
      const mark = marks[i]!;
      if (mark === null) continue;
      // One notification for consecutive messages of the same mark that were accepted together.
      if (i + 1 < to && marks[i + 1] === mark && ends[i + 1 - from]! <= accepted) continue;
      if (ends[i - from]! <= accepted) mark.accepted(seqs[i]!);
      else this.unsent!.marks.push({ end: ends[i - from]! - accepted, mark, seq: seqs[i]! });
    }
    return to;
  }

  private writeUnsent(unsent: Unsent): boolean {
    const { bytes, marks } = unsent;
    const accepted = Math.max(0, this.sink.write(bytes, 0, bytes.length));
    if (accepted > 0) this.progressAt = performance.now();
    let reached = 0;
    for (const waiting of marks) {
      waiting.end -= accepted;
      if (waiting.end <= 0) {
        waiting.mark.accepted(waiting.seq);
        reached++;
      }
    }
    marks.splice(0, reached);
    if (accepted < bytes.length) unsent.bytes = bytes.subarray(accepted);
    else this.unsent = null;
    return this.unsent === null;
  }
}
