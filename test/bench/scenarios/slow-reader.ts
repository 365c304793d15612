// A reader that stops reading while a flood is written to it, among others who chat at a given rate: what the others feel of
// it, what it costs the server, and that it gets everything, in order, when it reads on.
import { CHEAP_PASSWORDS } from "../../harness.ts";
import { type Case, meterOf, type Sample, type Scenario, single } from "../case.ts";
import { driveRate } from "../load/open-loop.ts";
import { enterPairs, leavePairs, type Pair } from "../load/pairs.ts";
import type { Measured } from "../load/tally.ts";
import { Meter, residentMiB } from "../meter.ts";
import { during, type RunningTarget, startServer } from "../target.ts";

/** Messages a second of the others in all, and what is written to the reader. */
const OTHERS_RATE = 2_000;
const FLOODS = [
  { name: "1 KiB texts", rate: 2_000, textBytes: 1_024 },
  { name: "16 KiB texts", rate: 500, textBytes: 16_384 },
];
const HIGH_WATER_KIB = 1_024;
const WATCH_EVERY_MS = 20;

interface Beside extends Measured {
  /** The most memory that the server has had. */
  mib: number;
}

const mean = (all: Measured[], metric: "p50" | "p99" | "p999"): number =>
  all.reduce((sum, each) => sum + each[metric], 0) / all.length;

export const slowReader: Scenario = {
  name: "slow-reader",
  about: "others at 2,000 messages/s beside a reader that reads a flood, then beside one that has stopped",
  onRequest: true,
  cases: ({ pairs, textBytes, seconds, warmUpSeconds }) =>
    FLOODS.map((flood): Case => {
      const measure = async (server: RunningTarget): Promise<Sample> => {
        const others = await enterPairs(server, pairs, textBytes);
        const [flooded] = (await enterPairs(server, 1, flood.textBytes)) as [Pair];
        const load = { seconds, warmUpSeconds };
        /** The others' latencies. */
        const beside = async (isStopped: boolean): Promise<Beside> => {
          const { socket } = flooded.receiver!;
          if (isStopped) socket.pause();
          const flooding = driveRate([flooded], flood.rate, { ...load, meter: new Meter([]) });
          // What it rejects with is told below.
          flooding.catch(() => undefined);
          let mib = 0;
          const watch = setInterval(() => {
            mib = Math.max(mib, residentMiB(server.pid));
          }, WATCH_EVERY_MS);
          const measured = await driveRate(others, OTHERS_RATE, { ...load, meter: meterOf(server) });
          clearInterval(watch);
          // It settles when everything has arrived, in order.
          socket.resume();
          await flooding;
          return { ...measured, mib };
        };
        // What is new to the server costs it more.
        await beside(false);
        const [reads, stopped]: [Beside[], Beside[]] = [[], []];
        // Both ways round, again and again: what the database grows by and what the machine does meanwhile count for both.
        for (const isStopped of [false, true, true, false, false, true, true, false])
          (isStopped ? stopped : reads).push(await beside(isStopped));
        await leavePairs([...others, flooded]);
        const p99 = mean(reads, "p99");
        const stoppedP99 = mean(stopped, "p99");
        return {
          p50: mean(reads, "p50"),
          p99,
          p999: mean(reads, "p999"),
          stoppedP50: mean(stopped, "p50"),
          stoppedP99,
          stoppedP999: mean(stopped, "p999"),
          moved: (stoppedP99 / p99 - 1) * 100,
          grownMib: Math.max(0, Math.max(...stopped.map(({ mib }) => mib)) - Math.max(...reads.map(({ mib }) => mib))),
          lost: 0,
        };
      };
      const flags = [...CHEAP_PASSWORDS, "--high-water", `${HIGH_WATER_KIB}k`];
      return single(flood.name, (build) => during(startServer(build, flags), measure));
    }),
};
