// Messages for users who are offline, and then all that is stored for them.
import type { Arguments } from "../arguments.ts";
import { coresOf, meterOf, type Sample, type Scenario, single } from "../case.ts";
import { fetchBacklog } from "../load/backlog.ts";
import { driveWindows, enterPairs, leavePairs } from "../load/pairs.ts";
import { during, startServer, type Target } from "../target.ts";

const WINDOW = 64;

/** Stores for the receivers, who are offline, for the given time, and then lets them all log in. */
export async function storeAndFetch(target: Target, given: Arguments): Promise<Sample> {
  const pairs = await enterPairs(target, given.pairs, given.textBytes, false);
  const meter = meterOf(target);
  const { acked, seconds, sent, p50, p99 } = await driveWindows(pairs, WINDOW, { ...given, meter });
  const cores = coresOf(target, meter, acked);
  const fetched = await fetchBacklog(target.receivers, pairs);
  await leavePairs(pairs);
  return { stored: acked / seconds, fetched: sent / fetched.seconds, p50, p99, ...cores, lost: 0 };
}

export const offline: Scenario = {
  name: "offline",
  about: `messages stored for offline users (window ${WINDOW}), then fetched by all of them at once`,
  cases: (given) => [
    single("embedded", (build) => during(startServer(build), (server) => storeAndFetch(server, given))),
  ],
};
