// Overload: messages at a rate that the server cannot keep up with, of clients that wait for no answer. They leave out what is due
// only while their socket takes no more, or thousands of their messages are not answered.
import type { Pair } from "./pairs.ts";
import { type Load, type Measured, Tally } from "./tally.ts";
import type { Schedule } from "./ticker.ts";

/** Ticks a second: at each of them one sender has as many messages to send as are due. */
const TICKS = 2_000;
const MOST_UNANSWERED = 8_192;

export interface Overloaded extends Measured {
  /** Messages that were due, all in all. */
  due: number;
  /** Seconds from the end of the load until all that was sent was answered, and delivered where it was accepted. */
  recovery: number;
}

export async function driveOverload(pairs: Pair[], rate: number, load: Load): Promise<Overloaded> {
  const tally = new Tally(1, Number.POSITIVE_INFINITY, true);
  for (const pair of pairs) pair.bind(tally, () => undefined);
  const everyMs = 1000 / TICKS;
  const startAt = performance.now();
  let [ticks, due] = [0, 0];
  const sendDue = () => {
    for (const now = performance.now(); startAt + ticks * everyMs <= now && !tally.stopped; ticks++) {
      const { [ticks % pairs.length]: pair } = pairs;
      const count = Math.round((ticks + 1) * (rate / TICKS)) - Math.round(ticks * (rate / TICKS));
      due += count;
      const isHeldBack = pair!.sender.isFull || pair!.sent - pair!.acked > MOST_UNANSWERED;
      if (!isHeldBack) pair!.send(tally, count, startAt + ticks * everyMs);
    }
  };
  const ticker = new Worker(new URL("./ticker.ts", import.meta.url));
  ticker.onmessage = sendDue;
  let endAt = 0;
  try {
    const running = tally.run(load, () => {
      const schedule: Schedule = { startAt: performance.timeOrigin + startAt, everyMs };
      ticker.postMessage(schedule);
      setTimeout(() => (endAt = performance.now()), (load.warmUpSeconds + load.seconds) * 1000);
    });
    const measured = await running;
    return { ...measured, due, recovery: (performance.now() - endAt) / 1000 };
  } finally {
    ticker.terminate();
  }
}
