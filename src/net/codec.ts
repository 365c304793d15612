// Bytes -> messages, in the three framings that the first byte tells apart (PROTOCOL.md, section 1).
// Pure: knows no socket. Pull-based: input stays undecoded bytes until the reader asks for the next message.
import { Errno, type Message } from "../protocol.ts";
import { Fault, parseMessage, parseTogether } from "./json.ts";
import { PartialFrame } from "./partial-frame.ts";

/** The peer's framing, also used for its answers. `nul` and `lf` are text, by the terminator the peer used last. */
export type Framing = "unknown" | "length" | "lf" | "nul";

const HEADER_BYTES = 4;
const NUL = 0x00;
const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const TAB = 0x09;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];
const BOM = [0xef, 0xbb, 0xbf];

/** Most frames parsed at once: bounds how far parsing runs ahead of the reader. */
const MOST_TOGETHER = 64;
const EMPTY = Buffer.alloc(0);
/** An empty list that replaces one that may have grown large. Never pushed to: each object starts with a new list. */
const NO_CLOSERS: number[] = [];

/** Messages that were parsed together and are not all returned yet. */
interface Ahead {
  messages: Message[];
  /** Where each one's frame ended in its chunk. */
  ends: number[];
  next: number;
  /** Size of the frames whose messages are not returned yet. */
  bytes: number;
}

/** Where the text scanner stands. */
type Scan = "between" | "object" | "string" | "escape" | "discard";

export class Decoder {
  framing: Framing = "unknown";
  /** True while the first object of a text connection waits for its terminator, which decides how to answer. */
  holding = false;

  private chunk: Buffer = EMPTY;
  private at = 0;
  /** Bytes of the unfinished frame from earlier chunks. */
  private readonly partial: PartialFrame;
  /** Length framing: bytes of the header seen (0 to 4) and its value so far. */
  private headerSeen = 0;
  private need = 0;
  /** Length framing: messages parsed but not yet returned. */
  private ahead: Ahead | null = null;
  /** Length framing: how many of the next frames to parse one by one, because together they could not be parsed. */
  private parseSingly = 0;
  private scan: Scan = "between";
  /** The closing brackets that the object being scanned still lacks, innermost last. */
  private closers = NO_CLOSERS;
  private discarded = 0;
  /** Bytes seen of a leading byte-order mark; 3 when it is complete or can no longer come. */
  private bomSeen = 0;
  private held: Message | Fault | null = null;
  /** No object has ended yet on this connection. */
  private first = true;
  private ended = false;

  constructor(private readonly maxFrameBytes: number) {
    this.partial = new PartialFrame(maxFrameBytes);
  }

  /** Bytes received but not yet returned as messages. */
  get bufferedBytes(): number {
    return this.partial.length + this.chunk.length - this.at + (this.ahead?.bytes ?? 0);
  }

  /** Takes the next bytes of the stream. The chunk is kept until it is consumed, and must not change meanwhile. */
  push(chunk: Buffer): void {
    if (this.ended) return;
    if (this.at < this.chunk.length) chunk = Buffer.concat([this.chunk.subarray(this.at), chunk]);
    this.chunk = chunk;
    this.at = 0;
  }

  /** The next message or fault in order; null when more bytes are needed. After errno 15 always null. */
  next(): Message | Fault | null {
    if (this.ended) return null;
    if (this.ahead !== null) return this.takeAhead(this.ahead);
    if (this.held !== null && this.at < this.chunk.length) return this.releaseHeld();
    if (this.at === this.chunk.length) {
      this.keepRest();
      return null;
    }
    if (this.framing === "unknown") this.framing = this.chunk[this.at] === NUL ? "length" : "lf";
    const result = this.framing === "length" ? this.nextLength() : this.nextText();
    if (result === null) this.keepRest();
    else if (result instanceof Fault && result.errno === Errno.tooLarge) this.end();
    return result;
  }

  /** Stops waiting for the first object's terminator and returns that object; null where none is held. */
  releaseHeld(): Message | Fault | null {
    const held = this.held;
    this.held = null;
    this.holding = false;
    this.first = false;
    this.peekTerminator();
    return held;
  }

  /** Drops all present and future input: for a connection that is being closed. */
  end(): void {
    this.ended = true;
    this.held = null;
    this.holding = false;
    this.ahead = null;
    this.chunk = EMPTY;
    this.at = 0;
    this.partial.drop();
  }

  private nextLength(): Message | Fault | null {
    if (this.parseSingly > 0) this.parseSingly--;
    else if (this.headerSeen === 0) this.parseAhead();
    if (this.ahead !== null) return this.takeAhead(this.ahead);
    while (this.headerSeen < HEADER_BYTES) {
      if (this.at >= this.chunk.length) return null;
      this.need = this.need * 256 + this.chunk[this.at++]!;
      this.headerSeen++;
    }
    if (this.need > this.maxFrameBytes)
      return new Fault(Errno.tooLarge, `frame of ${this.need} bytes: the limit is ${this.maxFrameBytes}`);
    if (this.bufferedBytes < this.need) return null;
    const length = this.need;
    this.headerSeen = 0;
    this.need = 0;
    if (length === 0) return new Fault(Errno.badJson, "empty frame: a JSON object was expected");
    return this.parse(this.at + length - this.partial.length);
  }

  /** Parses the complete frames of the chunk together, where there are several. */
  private parseAhead(): void {
    const { chunk, at } = this;
    const ends = this.wholeFrames();
    if (ends.length < 2) return;
    const messages = parseTogether(chunk, at, ends);
    if (messages === null) this.parseSingly = ends.length - 1;
    else {
      this.at = ends.at(-1)!;
      this.ahead = { messages, ends, next: 0, bytes: this.at - at };
    }
  }

  /** The ends of the next frames, as far as they are complete and look like objects. */
  private wholeFrames(): number[] {
    const { chunk, maxFrameBytes } = this;
    const ends: number[] = [];
    for (let at = this.at; ends.length < MOST_TOGETHER && at + HEADER_BYTES < chunk.length; ) {
      const length = chunk.readUInt32BE(at);
      const end = at + HEADER_BYTES + length;
      if (length > maxFrameBytes || end > chunk.length) break;
      if (chunk[at + HEADER_BYTES] !== OPEN_OBJECT || chunk[end - 1] !== CLOSE_OBJECT) break;
      ends.push(end);
      at = end;
    }
    return ends;
  }

  private takeAhead(ahead: Ahead): Message {
    const { messages, ends } = ahead;
    const message = messages[ahead.next++]!;
    if (ahead.next === messages.length) this.ahead = null;
    else ahead.bytes = ends.at(-1)! - ends[ahead.next - 1]!;
    return message;
  }

  private nextText(): Message | Fault | null {
    const { chunk, maxFrameBytes } = this;
    for (let i = this.at; i < chunk.length; i++) {
      const byte = chunk[i]!;
      switch (this.scan) {
        case "string":
          if (byte === QUOTE) this.scan = "object";
          else if (byte === BACKSLASH) this.scan = "escape";
          else if (byte < SPACE) return this.malformed(i, "a control character inside a string");
          break;
        case "escape":
          if (byte < SPACE) return this.malformed(i, "a control character inside a string");
          this.scan = "string";
          break;
        case "object":
          if (byte === QUOTE) this.scan = "string";
          else if (byte === OPEN_OBJECT) this.closers.push(CLOSE_OBJECT);
          else if (byte === OPEN_LIST) this.closers.push(CLOSE_LIST);
          else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) {
            if (this.closers.pop() !== byte) return this.malformed(i, "mismatched brackets");
            if (this.closers.length === 0) return this.completeText(i + 1);
          } else if (byte === NUL) return this.malformed(i, "a NUL inside an object");
          break;
        case "discard":
          if (byte === LF || byte === NUL) {
            this.setTerminator(byte);
            this.scan = "between";
          } else if (++this.discarded > maxFrameBytes) return this.tooLarge();
          break;
        default:
          if (this.bomSeen % 3 > 0 && byte !== BOM[this.bomSeen])
            return this.malformed(i, "an incomplete byte-order mark");
          if (byte === OPEN_OBJECT) {
            this.scan = "object";
            this.closers = [CLOSE_OBJECT];
            this.at = i;
          } else if (byte === NUL || byte === LF) this.setTerminator(byte);
          else if (byte === BOM[this.bomSeen]) this.bomSeen++;
          else if (byte !== SPACE && byte !== CR && byte !== TAB) return this.malformed(i, "no JSON object");
      }
    }
    if (this.scan === "between" || this.scan === "discard") this.at = chunk.length;
    else if (this.bufferedBytes > maxFrameBytes) return this.tooLarge();
    return null;
  }

  /** An object ends just before `end`. The connection's first one is held until the byte after it is known. */
  private completeText(end: number): Message | Fault | null {
    this.scan = "between";
    this.closers = NO_CLOSERS;
    this.bomSeen = 3;
    if (this.partial.length + end - this.at > this.maxFrameBytes) return this.tooLarge();
    const result = this.parse(end);
    // A line that is not JSON is one error: its rest must not be taken for the next object.
    if (result instanceof Fault && result.malformed) this.discard(0);
    this.peekTerminator();
    if (this.first && this.at === this.chunk.length) {
      this.held = result;
      this.holding = true;
      return null;
    }
    this.first = false;
    return result;
  }

  /** The text is malformed at `at`. What counts for its limit starts with its object, not with blanks before it. */
  private malformed(at: number, what: string): Fault {
    const before = this.scan === "between" ? 0 : this.partial.length + at - this.at;
    // In several chunks it would exceed the limit before this byte is seen: one chunk must give the same result.
    if (before > this.maxFrameBytes) return this.tooLarge();
    this.at = at;
    this.discard(before);
    this.partial.drop();
    this.bomSeen = 3;
    this.first = false;
    return new Fault(Errno.badJson, `not a message: ${what}`, true);
  }

  private discard(alreadyBytes: number): void {
    this.scan = "discard";
    this.discarded = alreadyBytes;
    this.closers = NO_CLOSERS;
    // The error is answered before the scan reaches the terminator that decides the answer's, so look ahead for it.
    const ends = [LF, NUL].map((byte) => this.chunk.indexOf(byte, this.at)).filter((end) => end >= 0);
    if (ends.length > 0) this.setTerminator(this.chunk[Math.min(...ends)]!);
  }

  private tooLarge(): Fault {
    return new Fault(Errno.tooLarge, `message too large: the limit is ${this.maxFrameBytes} bytes`);
  }

  private setTerminator(byte: number): void {
    this.framing = byte === NUL ? "nul" : "lf";
  }

  private peekTerminator(): void {
    const byte = this.chunk[this.at];
    if (byte === NUL || byte === LF) this.setTerminator(byte);
  }

  /** Copies an unfinished frame's bytes out of the chunk and releases the chunk. */
  private keepRest(): void {
    if (this.at < this.chunk.length) this.partial.add(this.chunk, this.at, this.chunk.length);
    this.chunk = EMPTY;
    this.at = 0;
  }

  /** Consumes the frame that ends just before `end` in the chunk. */
  private parse(end: number): Message | Fault {
    const start = this.at;
    this.at = end;
    if (this.partial.length === 0) return parseMessage(this.chunk, start, end);
    this.partial.add(this.chunk, start, end);
    const bytes = this.partial.take();
    return parseMessage(bytes, 0, bytes.length);
  }
}
