// A group of 100, written to by four.
import type { Arguments } from "../arguments.ts";
import { limit, meterOf, type Sample, type Scenario, sampleOf, single } from "../case.ts";
import { driveGroup, enterGroup, leaveGroup } from "../load/group.ts";
import { residentMiB } from "../meter.ts";
import { during, type RunningTarget, startRelay, startServer } from "../target.ts";

const MEMBERS = 100;

const measure =
  (given: Arguments) =>
  async (target: RunningTarget): Promise<Sample> => {
    const group = await enterGroup(target, MEMBERS);
    const meter = meterOf(target);
    const measured = await driveGroup(group, given.groupWindow, given.textBytes, { ...given, meter });
    const sample = { ...sampleOf(target, meter, measured), mib: residentMiB(target.pid) };
    await leaveGroup(group);
    return sample;
  };

export const group: Scenario = {
  name: "group",
  about: `deliveries in a group of ${MEMBERS} with 4 senders; beside the bare relay`,
  cases: (given) => [
    single(`${MEMBERS} members`, (build) => during(startServer(build), measure(given))),
    limit(`${MEMBERS} members, bare relay`, () => during(startRelay(), measure(given))),
  ],
};
