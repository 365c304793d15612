// Three times what the server can do, on one processor that it has for itself: how much of it is still done, how long that
// takes, and how soon all is as before.
import { CHEAP_PASSWORDS } from "../../harness.ts";
import { meterOf, type Sample, type Scenario, single } from "../case.ts";
import { driveRate } from "../load/open-loop.ts";
import { driveOverload } from "../load/overload.ts";
import { driveWindows, enterPairs, leavePairs } from "../load/pairs.ts";
import { during, type RunningTarget, startServer } from "../target.ts";

const TIMES = 3;
/** Of each sender, while the capacity is measured. */
const WINDOW = 64;
/** Messages a second before and after the overload. */
const QUIET_RATE = 1_000;

export const overload: Scenario = {
  name: "overload",
  about: `${TIMES} times the capacity of a server on one processor, from clients that wait for no answer`,
  onRequest: true,
  unable: Bun.which("taskset") === null ? "taskset is missing: apt-get install util-linux" : null,
  cases: ({ pairs: count, textBytes, seconds, warmUpSeconds }) => {
    const measure = async (server: RunningTarget): Promise<Sample> => {
      const pairs = await enterPairs(server, count, textBytes);
      const load = { seconds, warmUpSeconds };
      const peak = async () => {
        const { delivered, seconds: taken } = await driveWindows(pairs, WINDOW, { ...load, meter: meterOf(server) });
        return delivered / taken;
      };
      const first = await peak();
      const quiet = await driveRate(pairs, QUIET_RATE, { ...load, meter: meterOf(server) });
      const loaded = await driveOverload(pairs, TIMES * first, { ...load, meter: meterOf(server) });
      const after = await driveRate(pairs, QUIET_RATE, { ...load, warmUpSeconds: 0, meter: meterOf(server) });
      // Both before and behind it: the machine is not always equally fast.
      const capacity = (first + (await peak())) / 2;
      await leavePairs(pairs);
      const goodput = loaded.delivered / loaded.seconds;
      return {
        capacity,
        rate: goodput,
        goodput: (goodput / capacity) * 100,
        due: loaded.due / (loaded.seconds + warmUpSeconds),
        refused: loaded.refused,
        p50: loaded.p50,
        p99: loaded.p99,
        recovery: loaded.recovery,
        quietP99: quiet.p99,
        afterP99: after.p99,
        lost: 0,
      };
    };
    const prefix = ["taskset", "-c", "0"];
    return [single("embedded", (build) => during(startServer(build, CHEAP_PASSWORDS, { prefix }), measure))];
  },
};
