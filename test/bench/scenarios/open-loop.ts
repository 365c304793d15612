// Latency at given loads, from when each message was to be sent.
import { meterOf, type Scenario, sampleOf, single } from "../case.ts";
import { driveRate } from "../load/open-loop.ts";
import { driveWindows, enterPairs, leavePairs } from "../load/pairs.ts";
import { during, startServer } from "../target.ts";

/**
 * Messages that each server has handled before, for each second of warm-up, 16 of a sender at once: at a low rate it would
 * be compiling all the time what runs often, and that would be measured.
 */
const HANDLED_BEFORE = 300_000;
const WINDOW_BEFORE = 16;
/**
 * And then, at the rate itself, times the warm-up of other scenarios: until what the loops and threads do at this rate is
 * compiled too, and what came before is folded.
 */
const WARM_UPS = 4;
/** Times the length of other measurements: at 5,000/s the store folds every three seconds, and that belongs to it. */
const LENGTHS = 2;

export const openLoop: Scenario = {
  name: "open-loop",
  about:
    "latency at given rates, from the scheduled time, whether or not the server keeps up (4 times the warm-up, twice as long)",
  cases: (given) =>
    given.rates.map((rate) =>
      single(`${rate.toLocaleString("en")}/s`, (build) =>
        during(startServer(build), async (server) => {
          const pairs = await enterPairs(server, given.pairs, given.textBytes);
          const meter = meterOf(server);
          const messages = Math.ceil(HANDLED_BEFORE * given.warmUpSeconds);
          await driveWindows(pairs, WINDOW_BEFORE, { ...given, meter, messages });
          const warmUpSeconds = WARM_UPS * given.warmUpSeconds;
          const measured = await driveRate(pairs, rate, { seconds: LENGTHS * given.seconds, warmUpSeconds, meter });
          await leavePairs(pairs);
          return sampleOf(server, meter, measured);
        }),
      ),
    ),
};
