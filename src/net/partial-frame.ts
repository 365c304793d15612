// The bytes of an incomplete frame, gathered from the chunks that carried them, in one buffer that doubles: a frame in
// many tiny chunks costs little more than its bytes.

const EMPTY = Buffer.alloc(0);

export class PartialFrame {
  length = 0;
  private bytes = EMPTY;

  /** The caller must not add more than `maxBytes` in all. */
  constructor(private readonly maxBytes: number) {}

  /** Copies the chunk's bytes from `start` to before `end`, so that they do not keep the chunk alive. */
  add(chunk: Buffer, start: number, end: number): void {
    const length = this.length + end - start;
    if (length > this.bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(length, Math.min(2 * this.bytes.length, this.maxBytes)));
      this.bytes.copy(grown, 0, 0, this.length);
      this.bytes = grown;
    }
    chunk.copy(this.bytes, this.length, start, end);
    this.length = length;
  }

  /** Returns what was gathered and starts afresh with the next frame. */
  take(): Buffer {
    const bytes = this.bytes.subarray(0, this.length);
    this.drop();
    return bytes;
  }

  drop(): void {
    this.bytes = EMPTY;
    this.length = 0;
  }
}
