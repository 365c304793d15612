// What to do with more messages than the store can take. A queue that only its length bounds makes everybody wait, and the
// system's buffers of all connections fill up behind it: so who comes while others have waited for long is refused. But to
// refuse costs time too. Where this thread's time is the limit, most of it must not go into refusals: then connections are
// read more slowly, because of their requests in flight, and their clients cannot send more.
import { Busy } from "./busy.ts";

/** Others have waited for long: longer than a thousand messages of each of fifty clients take, where each waits for its answers. */
const QUEUE_MS = 1_000;
/** For so long that it is no burst. */
const BURST_MS = 1_000;
/** After that, it is none either when it comes again this soon. */
const STRICT_MS = 5_000;
/** Shares of its time in which the thread is busy: below, it can refuse more; above, less. */
const [IDLE, SATURATED] = [0.8, 0.9];
/** Refusals in a tick: at first, at most, and for each message that is taken while there is no time to spare. */
const FIRST_REFUSALS = 1_000;
const MOST_REFUSALS = 100_000;
const REFUSALS_PER_TAKEN = 0.25;

export class Shedder {
  private readonly busy = new Busy();
  /** Since when messages have waited too long, and until when that is no burst any more: performance.now(). */
  private slowSince: number | null = null;
  private strictUntil = Number.NEGATIVE_INFINITY;
  /** Refusals allowed in each tick; made in this one. */
  private allowed = FIRST_REFUSALS;
  private refused = 0;
  private taken = 0;

  /** A batch of `count` is taken out of the queue; the oldest message that it has left behind has waited for `waitedMs`. */
  take(count: number, waitedMs: number, now: number): void {
    this.taken += count;
    if (waitedMs <= QUEUE_MS) this.slowSince = null;
    else {
      this.slowSince ??= now;
      if (now - this.slowSince > BURST_MS || now < this.strictUntil) this.strictUntil = now + STRICT_MS;
    }
  }

  /** Whether to refuse a message that comes while the oldest in the queue has waited for `waitedMs`. */
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
