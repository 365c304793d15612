// Load shedding, when more messages come than the store can take. With a queue bounded only by its length everybody
// waits, and the kernel buffers of all connections fill up behind it: so while others have waited for long, newcomers
// are refused. But refusing costs time too. Where this thread is the bottleneck, most of its time must not go into
// that: then messages are taken, and the limit on requests in flight slows reading, and so the clients.
import { Busy } from "./busy.ts";

/** Waiting longer than this is long: fifty clients with windows of a thousand messages cause less. */
const QUEUE_MS = 1_000;
/** Waits that stay that long for more than this time are no burst any more: refusing begins. */
const BURST_MS = 1_000;
/** Refusing goes on until waits have been short for this long; long ones within it are no burst either. */
const STRICT_MS = 5_000;
/** How busy the thread is, as a share of time: below IDLE it may refuse more, above SATURATED less. */
const [IDLE, SATURATED] = [0.8, 0.9];
/** Refusals per tick: initially, at most, and, while saturated, at least this many per message taken. */
const FIRST_REFUSALS = 1_000;
const MOST_REFUSALS = 100_000;
const REFUSALS_PER_TAKEN = 0.25;

export class Shedder {
  private readonly busy = new Busy();
  /** Since when waits have been long, and until when long waits count as no burst: performance.now(). */
  private slowSince: number | null = null;
  private strictUntil = Number.NEGATIVE_INFINITY;
  /** Refusals allowed per tick, and made in this one. */
  private allowed = FIRST_REFUSALS;
  private refused = 0;
  private taken = 0;

  /** `count` messages have been taken out of the queue; the oldest one left has waited for `waitedMs`. */
  take(count: number, waitedMs: number, now: number): void {
    this.taken += count;
    if (waitedMs <= QUEUE_MS) this.slowSince = null;
    else {
      this.slowSince ??= now;
      if (now - this.slowSince > BURST_MS || now < this.strictUntil) this.strictUntil = now + STRICT_MS;
    }
  }

  /** Whether to refuse a message that arrives while the oldest in the queue has waited for `waitedMs`. */
  refuses(waitedMs: number, now: number): boolean {
    if (now >= this.strictUntil || waitedMs <= QUEUE_MS || this.refused >= this.allowed) return false;
    this.refused++;
    return true;
  }

  /** To be called every 100 ms or so. */
  tick(): void {
    const share = this.busy.share();
    if (share < IDLE) this.allowed = Math.min(MOST_REFUSALS, this.allowed * 1.5);
    else if (share > SATURATED) this.allowed = Math.max(REFUSALS_PER_TAKEN * this.taken, this.allowed * 0.7);
    this.allowed = Math.max(this.allowed, 1);
    this.refused = this.taken = 0;
  }
}
