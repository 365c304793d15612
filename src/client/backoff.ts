// How long to wait before the next attempt: exponential, with jitter, so that clients that failed together do not
// return together (Brooker, "Exponential Backoff And Jitter").

export class Backoff {
  private attempts = 0;

  constructor(
    private readonly minMs: number,
    private readonly maxMs: number,
  ) {}

  /** Milliseconds. `atLeastMs` is what the server asked for (0: nothing); up to half of that is added. */
  next(atLeastMs = 0): number {
    const ceiling = Math.min(this.maxMs, this.minMs * 2 ** this.attempts++);
    const delay = (ceiling / 2) * (1 + Math.random());
    return atLeastMs > 0 ? Math.max(delay, atLeastMs * (1 + Math.random() / 2)) : delay;
  }

  /** To be called when an attempt has succeeded. */
  reset(): void {
    this.attempts = 0;
  }
}

/** How long the server asks to wait, milliseconds; 0 where it says nothing sensible, at most an hour. */
export const retryAfterMs = (value: unknown): number =>
  typeof value === "number" && value > 0 ? Math.min(value, 3_600_000) : 0;
