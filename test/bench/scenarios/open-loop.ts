// Latency at given loads, from when each message was to be sent.
import { meterOf, type Scenario, sampleOf, single } from "../case.ts";
import { driveRate } from "../load/open-loop.ts";
import { enterPairs, leavePairs } from "../load/pairs.ts";
import { during, startServer } from "../target.ts";

export const openLoop: Scenario = {
  name: "open-loop",
  about: "latency at given rates, from the scheduled time, whether or not the server keeps up",
  cases: (given) =>
    given.rates.map((rate) =>
      single(`${rate.toLocaleString("en")}/s`, (build) =>
        during(startServer(build), async (server) => {
          const pairs = await enterPairs(server, given.pairs, given.textBytes);
          const meter = meterOf(server);
          const measured = await driveRate(pairs, rate, { ...given, meter });
          await leavePairs(pairs);
          return sampleOf(server, meter, measured);
        }),
      ),
    ),
};
