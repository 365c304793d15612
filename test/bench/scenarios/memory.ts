// The server's memory over a long time of traffic: flat, if nothing leaks.
import { meterOf, type Scenario, sampleOf } from "../case.ts";
import { driveRate } from "../load/open-loop.ts";
import { enterPairs, leavePairs } from "../load/pairs.ts";
import { residentMiB } from "../meter.ts";
import { during, startServer } from "../target.ts";

/** Messages a second. */
const RATE = 5_000;
/** Shares of the time at which memory is looked at. */
const EARLY = 0.1;
const HALF = 0.5;

export const memory: Scenario = {
  name: "memory",
  about: `the server's memory during --minutes of traffic at ${RATE.toLocaleString("en")} messages/s`,
  onRequest: true,
  cases: (given) => [
    {
      name: `${given.minutes} minutes`,
      // Once, however many runs the others have.
      dear: true,
      measure: (build) =>
        during(startServer(build), async (server) => {
          const pairs = await enterPairs(server, given.pairs, given.textBytes);
          const meter = meterOf(server);
          const seconds = given.minutes * 60;
          const seen: Record<string, number> = {};
          const look = (metric: string, share: number) =>
            setTimeout(
              () => {
                seen[metric] = residentMiB(server.pid);
              },
              share * seconds * 1000,
            );
          const timers = [look("earlyMib", EARLY), look("halfMib", HALF)];
          const measured = await driveRate(pairs, RATE, { ...given, seconds, meter });
          seen.mib = residentMiB(server.pid);
          for (const timer of timers) clearTimeout(timer);
          await leavePairs(pairs);
          return [{ ...sampleOf(server, meter, measured), ...seen }];
        }),
    },
  ],
};
