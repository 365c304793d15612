// Pairs of clients, each sender keeping a window of unacknowledged messages full, beside the bare relay.
import type { Arguments } from "../arguments.ts";
import { limit, meterOf, type Sample, type Scenario, sampleOf, single } from "../case.ts";
import { driveWindows, enterPairs, leavePairs } from "../load/pairs.ts";
import { residentMiB } from "../meter.ts";
import { during, type RunningTarget, startRelay, startServer } from "../target.ts";

/** Times the warm-up of other scenarios: at window 1 what runs for each message takes seconds to be compiled. */
const WARM_UPS = 5;

const measure =
  (window: number, given: Arguments) =>
  async (target: RunningTarget): Promise<Sample> => {
    const pairs = await enterPairs(target, given.pairs, given.textBytes);
    const meter = meterOf(target);
    const measured = await driveWindows(pairs, window, {
      ...given,
      warmUpSeconds: WARM_UPS * given.warmUpSeconds,
      meter,
    });
    const sample = { ...sampleOf(target, meter, measured), mib: residentMiB(target.pid) };
    await leavePairs(pairs);
    return sample;
  };

export const oneToOne: Scenario = {
  name: "one-to-one",
  about:
    "messages delivered, each stored with fsync, at several windows; beside a bare relay that stores nothing (5 times the warm-up)",
  cases: (given) =>
    given.windows.flatMap((window) => [
      single(`window ${window}`, (build) => during(startServer(build), measure(window, given))),
      limit(`window ${window}, bare relay`, () => during(startRelay(), measure(window, given))),
    ]),
};
