// One measurement: its warm-up, its time, its counters, and the wait until all that was sent is acknowledged and delivered.
import { Errno } from "../../../src/protocol.ts";
import type { Meter } from "../meter.ts";
import { Histogram } from "./histogram.ts";

export interface Load {
  /** Before the measuring begins. */
  warmUpSeconds: number;
  seconds: number;
  /** Measures while the time runs. */
  meter: Meter;
  /** Instead of a time: so many messages are sent, and all of them are measured, up to the last one's arrival. */
  messages?: number;
}

export interface Measured {
  /** In all, with the warm-up. */
  sent: number;
  /** In the measured time. */
  acked: number;
  delivered: number;
  /** In all: the server said that it has too much to do. */
  refused: number;
  seconds: number;
  /** Milliseconds from send (or from when it was to be sent) to receipt. */
  p50: number;
  p99: number;
  p999: number;
}

/** How long what was sent may take to arrive. */
const LATE_MS = 60_000;

export class Tally {
  sent = 0;
  /** Answered, refusals too. */
  acked = 0;
  delivered = 0;
  refused = 0;
  /** Latencies count. */
  measuring = false;
  /** Nothing is sent any more. */
  stopped = false;
  readonly latencies = new Histogram();
  private readonly settled = Promise.withResolvers<void>();
  private readonly full = Promise.withResolvers<void>();

  /** `deliveries`: of each message. `refusals`: the server may refuse what is too much (errno 16); otherwise that fails. */
  constructor(
    private readonly deliveries: number,
    private readonly messages = Number.POSITIVE_INFINITY,
    private readonly refusals = false,
  ) {
    this.settled.promise.catch(() => undefined);
  }

  /** How many of `wanted` messages may still be sent. */
  allowed(wanted: number): number {
    if (this.stopped) return 0;
    const left = this.messages - this.sent;
    if (left <= wanted) this.full.resolve();
    return Math.min(wanted, left);
  }

  /** To be called, once it has stopped, whenever something has arrived. */
  check(): void {
    if (this.acked === this.sent && this.delivered === this.due) this.settled.resolve();
  }

  /** A message is answered by an `errno` that is not 0. */
  refuse(errno: number, answer: string): void {
    if (errno === Errno.rateLimited && this.refusals) this.refused++;
    else this.fail(`refused: ${answer}`);
  }

  private get due(): number {
    return (this.sent - this.refused) * this.deliveries;
  }

  /** Something is lost, doubled, refused or out of order: the measurement fails. */
  fail(reason: string): void {
    this.settled.reject(new Error(reason));
  }

  /** Waits for the load's end; `begin` sends the first messages. */
  async run({ warmUpSeconds, seconds, meter, messages }: Load, begin: () => void): Promise<Measured> {
    if (messages === undefined) {
      begin();
      await this.pass(Bun.sleep(warmUpSeconds * 1000));
    }
    const before = { acked: this.acked, delivered: this.delivered };
    meter.start();
    this.measuring = true;
    if (messages === undefined) await this.pass(Bun.sleep(seconds * 1000));
    else {
      begin();
      await this.pass(this.full.promise);
      await this.settle();
    }
    meter.stop();
    this.measuring = false;
    const measured = { acked: this.acked - before.acked, delivered: this.delivered - before.delivered };
    await this.settle();
    const [p50, p99, p999] = [0.5, 0.99, 0.999].map((share) => this.latencies.percentile(share)) as [
      number,
      number,
      number,
    ];
    return { sent: this.sent, refused: this.refused, ...measured, seconds: meter.seconds, p50, p99, p999 };
  }

  /** Sends nothing more, and waits until all that was sent is acknowledged and delivered. */
  async settle(ms = LATE_MS): Promise<void> {
    this.stopped = true;
    this.check();
    const late = setTimeout(() => {
      const { sent, acked, delivered, deliveries } = this;
      this.fail(
        `lost: of ${sent} sent ${acked} are acknowledged, of ${sent * deliveries} deliveries ${delivered} made`,
      );
    }, ms);
    await this.settled.promise;
    clearTimeout(late);
  }

  /** Waits, unless the measurement fails before. */
  private pass(time: Promise<void>): Promise<void> {
    return Promise.race([time, this.settled.promise]);
  }
}
