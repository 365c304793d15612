// Open loop: messages are sent at a rate, whether or not those before have been answered, and each one's latency counts from
// when it was to be sent. What a sender could not send in time is not forgiven.
import type { Pair } from "./pairs.ts";
import { type Load, type Measured, Tally } from "./tally.ts";
import type { Schedule } from "./ticker.ts";

/** Ticks a second at most; at higher rates several messages, of different senders, are due at one tick. */
const MOST_TICKS = 4_000;
const START_DELAY_MS = 20;

/** `rate`: messages a second, of all pairs in turn. What the server refuses, because it is too much, is counted. */
export async function driveRate(pairs: Pair[], rate: number, load: Load): Promise<Measured> {
  const tally = new Tally(1, Number.POSITIVE_INFINITY, true);
  for (const pair of pairs) pair.bind(tally, () => undefined);
  const perTick = Math.ceil(rate / MOST_TICKS);
  const everyMs = (perTick / rate) * 1000;
  const startAt = performance.now() + START_DELAY_MS;
  let ticks = 0;
  let next = 0;
  const sendDue = () => {
    for (const now = performance.now(); startAt + ticks * everyMs <= now && !tally.stopped; ticks++)
      for (let i = 0; i < perTick; i++) {
        pairs[next]!.send(tally, 1, startAt + ticks * everyMs);
        next = (next + 1) % pairs.length;
      }
  };
  const ticker = new Worker(new URL("./ticker.ts", import.meta.url));
  ticker.onmessage = sendDue;
  try {
    return await tally.run(load, () => {
      const schedule: Schedule = { startAt: performance.timeOrigin + startAt, everyMs };
      ticker.postMessage(schedule);
    });
  } finally {
    ticker.terminate();
  }
}
