// A connection's way out: texts wait until the turn of the loop ends, then leave framed and in one write; what the
// kernel does not take yet waits for `drain`. Tells each push's mark when the kernel has accepted it.
import { encode, type Framing } from "./codec.ts";

/** Told that everything up to and including the message `seq` has been accepted by the kernel. */
export interface Mark {
  accepted(seq: number): void;
}

interface Sink {
  /** Bytes accepted; negative after the close. */
  write(bytes: Uint8Array): number;
}

/** Encoded per write; a longer message gets a buffer of its own. Shared by all connections of this thread. */
const scratch = Buffer.allocUnsafeSlow(256 * 1024);
const roomFor = (text: string): number => text.length * 3 + 4;

/** The texts that `scratch` holds, and where each ends. The members of a group are sent the same ones, encoded once. */
const held: string[] = [];
const heldEnds: number[] = [];
let heldFraming: Framing = "lf";

/** Encodes texts from `from` on, as many as `scratch` holds; returns the index behind the last of them. */
function encodeSome(texts: string[], from: number, framing: Framing): number {
  let same = 0;
  if (framing === heldFraming) while (same < held.length && held[same] === texts[from + same]) same++;
  heldFraming = framing;
  held.length = heldEnds.length = same;
  let end = same === 0 ? 0 : heldEnds[same - 1]!;
  let to = from + same;
  for (; to < texts.length && end + roomFor(texts[to]!) <= scratch.length; to++) {
    end = encode(texts[to]!, framing, scratch, end);
    held.push(texts[to]!);
    heldEnds.push(end);
  }
  return to;
}

export class Output {
  framing: Framing = "lf";
  /** When the kernel last took something, or had nothing to take: performance.now(), milliseconds. */
  progressAt = performance.now();

  private texts: string[] = [];
  private marks: (Mark | null)[] = [];
  private seqs: number[] = [];
  private textLength = 0;
  /** Encoded, but not taken by the kernel. */
  private unsent: Buffer | null = null;
  /** Marks of messages in `unsent`, and the bytes of it that go before they are accepted. */
  private unsentMarks: { end: number; mark: Mark; seq: number }[] = [];

  private flushWaiters: ((accepted: boolean) => void)[] = [];

  constructor(private readonly sink: Sink) {}

  /** About how many bytes wait. */
  get pendingBytes(): number {
    return this.textLength + (this.unsent?.length ?? 0);
  }

  add(text: string, mark: Mark | null, seq: number): void {
    if (this.pendingBytes === 0) this.progressAt = performance.now();
    this.texts.push(text);
    this.marks.push(mark);
    this.seqs.push(seq);
    this.textLength += text.length;
  }

  /** Writes until everything is out or the kernel takes no more; true where everything is out. */
  flush(): boolean {
    if (this.unsent !== null && !this.writeUnsent()) return false;
    let from = 0;
    while (from < this.texts.length && this.unsent === null) from = this.writeSome(from);
    if (from === this.texts.length) {
      this.texts = [];
      this.marks = [];
      this.seqs = [];
      this.textLength = 0;
    } else {
      for (let i = 0; i < from; i++) this.textLength -= this.texts[i]!.length;
      this.texts.splice(0, from);
      this.marks.splice(0, from);
      this.seqs.splice(0, from);
    }
    if (this.unsent !== null) return false;
    this.settle(true);
    return true;
  }

  /** Settles with true when the kernel has accepted everything added so far, with false when it never will. */
  whenFlushed(): Promise<boolean> {
    if (this.pendingBytes === 0) return Promise.resolve(true);
    return new Promise((resolve) => this.flushWaiters.push(resolve));
  }

  /** Forgets what waits: for a connection that is gone. */
  discard(): void {
    this.texts = [];
    this.marks = [];
    this.seqs = [];
    this.textLength = 0;
    this.unsent = null;
    this.unsentMarks = [];
    this.settle(false);
  }

  private settle(accepted: boolean): void {
    const waiters = this.flushWaiters;
    if (waiters.length === 0) return;
    this.flushWaiters = [];
    for (const resolve of waiters) resolve(accepted);
  }

  /** Encodes and writes messages from `from` on, as many as one buffer holds; returns where the rest starts. */
  private writeSome(from: number): number {
    const room = roomFor(this.texts[from]!);
    const alone = room > scratch.length ? Buffer.allocUnsafe(room) : null;
    const out = alone ?? scratch;
    const to = alone === null ? encodeSome(this.texts, from, this.framing) : from + 1;
    const ends = alone === null ? heldEnds : [encode(this.texts[from]!, this.framing, alone, 0)];
    const end = ends.at(-1)!;
    const accepted = Math.max(0, this.sink.write(out.subarray(0, end)));
    if (accepted > 0) this.progressAt = performance.now();
    for (let i = from; i < to; i++) {
      const mark = this.marks[i]!;
      if (mark === null) continue;
      if (ends[i - from]! <= accepted) mark.accepted(this.seqs[i]!);
      else this.unsentMarks.push({ end: ends[i - from]! - accepted, mark, seq: this.seqs[i]! });
    }
    if (accepted < end) this.unsent = Buffer.from(out.subarray(accepted, end));
    return to;
  }

  private writeUnsent(): boolean {
    const unsent = this.unsent!;
    const accepted = Math.max(0, this.sink.write(unsent));
    if (accepted > 0) this.progressAt = performance.now();
    this.unsent = accepted < unsent.length ? unsent.subarray(accepted) : null;
    let reached = 0;
    for (const waiting of this.unsentMarks) {
      waiting.end -= accepted;
      if (waiting.end <= 0) {
        waiting.mark.accepted(waiting.seq);
        reached++;
      }
    }
    this.unsentMarks.splice(0, reached);
    return this.unsent === null;
  }
}
