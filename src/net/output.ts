// A connection's way out: messages wait until the turn of the loop ends, then leave framed and in one write; what the
// kernel does not take yet waits for `drain`. Tells each push's mark when the kernel has accepted it.
import type { Framing } from "./codec.ts";
import { encode, type Outgoing, roomFor } from "./encode.ts";

/** Told that everything up to and including the message `seq` has been accepted by the kernel. */
export interface Mark {
  accepted(seq: number): void;
}

interface Sink {
  /** Of the `length` bytes from `offset` on, how many are accepted; negative after the close. */
  write(bytes: Uint8Array, offset: number, length: number): number;
}

/** Encoded per write; a longer message gets a buffer of its own. Shared by all connections of this thread. */
const scratch = Buffer.allocUnsafeSlow(256 * 1024);

/** The messages that `scratch` holds, and where each ends. The members of a group are sent the same ones, encoded once. */
const held: Outgoing[] = [];
const heldEnds: number[] = [];
let heldFraming: Framing = "lf";

/** Encodes messages from `from` on, as many as `scratch` holds; returns the index behind the last of them. */
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

/** Messages that are not encoded yet, each with its mark and seq. */
class Waiting {
  readonly messages: Outgoing[] = [];
  readonly marks: (Mark | null)[] = [];
  readonly seqs: number[] = [];

  empty(): this {
    this.messages.length = this.marks.length = this.seqs.length = 0;
    return this;
  }
}

/** For the next flush of any connection: new lists for each one cost as much as several messages. */
const spares: Waiting[] = [];
const MAX_SPARES = 256;
/** What had more is not kept: its memory is. */
const SPARE_MESSAGES = 64;

/** Encoded, but not taken by the kernel. */
interface Unsent {
  bytes: Buffer;
  /** Of messages in it, and how many of its bytes go before each is accepted. */
  marks: { end: number; mark: Mark; seq: number }[];
}

export class Output {
  framing: Framing = "lf";
  /** When the kernel last took something, or had nothing to take: performance.now(), milliseconds. */
  progressAt = performance.now();

  /** Null where there is nothing, as these are: most connections have nothing to send, and empty lists take memory too. */
  private waiting: Waiting | null = null;
  private textLength = 0;
  private unsent: Unsent | null = null;
  private flushed: PromiseWithResolvers<boolean> | null = null;

  constructor(private readonly sink: Sink) {}

  /** About how many bytes wait. */
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

  /** `mark` is told when the message that was added last is accepted. */
  markLast(mark: Mark): void {
    const marks = this.waiting?.marks;
    if (marks !== undefined) marks[marks.length - 1] = mark;
  }

  /** Writes until everything is out or the kernel takes no more; true where everything is out. */
  flush(): boolean {
    if (this.unsent !== null && !this.writeUnsent(this.unsent)) return false;
    if (this.waiting !== null) this.writeWaiting(this.waiting);
    if (this.unsent !== null) return false;
    this.settle(true);
    return true;
  }

  /** Settles with true when the kernel has accepted everything added so far, with false when it never will. */
  whenFlushed(): Promise<boolean> {
    if (this.pendingBytes === 0) return Promise.resolve(true);
    this.flushed ??= Promise.withResolvers();
    return this.flushed.promise;
  }

  /** Forgets what waits: for a connection that is gone. */
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

  /** Encodes and writes messages from `from` on, as many as one buffer holds; returns where the rest starts. */
  private writeSome({ messages, marks, seqs }: Waiting, from: number): number {
    const room = roomFor(messages[from]!);
    const alone = room > scratch.length ? Buffer.allocUnsafe(room) : null;
    const out = alone ?? scratch;
    const to = alone === null ? encodeSome(messages, from, this.framing) : from + 1;
    const ends = alone === null ? heldEnds : [encode(messages[from]!, this.framing, alone, 0)];
    const end = ends.at(-1)!;
    // Not by a view: one for each write is garbage to be collected.
    const accepted = Math.max(0, this.sink.write(out, 0, end));
    if (accepted > 0) this.progressAt = performance.now();
    if (accepted < end) this.unsent = { bytes: Buffer.from(out.subarray(accepted, end)), marks: [] };
    for (let i = from; i < to; i++) {
      const mark = marks[i]!;
      if (mark === null) continue;
      // Once for what has been accepted together.
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
