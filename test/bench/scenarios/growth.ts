// What a message costs as users, group, stored history and offline backlog grow: flat, or there is something to explain.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "../../harness.ts";
import type { Arguments } from "../arguments.ts";
import { type Case, coresOf, meterOf, type Sample, type Scenario, sampleOf } from "../case.ts";
import { fetchBacklog } from "../load/backlog.ts";
import { driveGroup, enterGroup, leaveGroup } from "../load/group.ts";
import { driveRate } from "../load/open-loop.ts";
import { driveWindows, enterOneTarget, enterPairs, leavePairs } from "../load/pairs.ts";
import { residentMiB } from "../meter.ts";
import { type Build, during, type RunningTarget, startOn, startServer } from "../target.ts";

/** At which users and memory are compared: messages a second. */
const RATE = 20_000;
const WINDOW = 16;
/** With which messages are stored before the measuring begins. */
const FILL_WINDOW = 64;
const FIRST_SECONDS = { warmUpSeconds: 0, seconds: 0 };

const points = (values: number[], what: string, measure: (value: number) => Case["measure"]): Case[] =>
  values.map((value) => ({ name: `${value.toLocaleString("en")} ${what}`, measure: measure(value), dear: true }));

async function repeat(times: number, measure: () => Promise<Sample>): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let i = 0; i < times; i++) samples.push(await measure());
  return samples;
}

export const users: Scenario = {
  name: "users",
  about: `cost per message as the users online grow, all of them active, at ${RATE.toLocaleString("en")} messages/s in all`,
  cases: (given) =>
    points(
      given.users,
      "users",
      (count) => (build, times) =>
        during(startServer(build), async (server) => {
          const pairs = await enterPairs(server, Math.ceil(count / 2), given.textBytes);
          const samples = await repeat(times, async () => {
            const meter = meterOf(server);
            const measured = await driveRate(pairs, RATE, { ...given, meter });
            return { ...sampleOf(server, meter, measured), mib: residentMiB(server.pid) };
          });
          await leavePairs(pairs);
          return samples;
        }),
    ),
};

export const groupSize: Scenario = {
  name: "group-size",
  about: "cost per delivery as a group grows, 4 senders",
  cases: (given) =>
    points(
      given.groups,
      "members",
      (size) => (build, times) =>
        during(startServer(build), async (server) => {
          const group = await enterGroup(server, size);
          const samples = await repeat(times, async () => {
            const meter = meterOf(server);
            const measured = await driveGroup(group, given.groupWindow, given.textBytes, { ...given, meter });
            return { ...sampleOf(server, meter, measured), mib: residentMiB(server.pid) };
          });
          await leaveGroup(group);
          return samples;
        }),
    ),
};

/** Milliseconds from the start of the process to its listening. */
async function startMs(build: Build, file: string): Promise<[number, Awaited<ReturnType<typeof startOn>>]> {
  const startedAt = performance.now();
  const server = await startOn(build, file);
  return [performance.now() - startedAt, server];
}

async function measureHistory(build: Build, times: number, stored: number, given: Arguments): Promise<Sample[]> {
  const folder = temporaryFolder();
  const file = join(folder, "chat.db");
  const samples = await during(startOn(build, file), async (server) => {
    const pairs = await enterPairs(server, given.pairs, given.textBytes);
    if (stored > 0)
      await driveWindows(pairs, FILL_WINDOW, { ...FIRST_SECONDS, messages: stored, meter: meterOf(server) });
    const measured = await repeat(times, async () => {
      const meter = meterOf(server);
      return sampleOf(server, meter, await driveWindows(pairs, WINDOW, { ...given, meter }));
    });
    await leavePairs(pairs);
    return measured;
  });
  for (const sample of samples) {
    const [ms, server] = await startMs(build, file);
    sample.mib = residentMiB(server.pid);
    // Killed in the middle of traffic, it finds a journal to be read when it starts again.
    const pairs = await enterPairs(server, given.pairs, given.textBytes, false);
    await driveWindows(pairs, FILL_WINDOW, { ...FIRST_SECONDS, messages: 20_000, meter: meterOf(server) });
    await leavePairs(pairs);
    await server.stop("SIGKILL");
    const [killedMs, again] = await startMs(build, file);
    await again.stop();
    Object.assign(sample, { startMs: ms, killedMs });
  }
  rmSync(folder, { recursive: true, force: true });
  return samples;
}

export const history: Scenario = {
  name: "history",
  about: `cost per message as the stored history grows (window ${WINDOW}), and the start-up with it: after SIGTERM, after kill -9`,
  cases: (given) =>
    points(given.history, "stored", (stored) => (build, times) => measureHistory(build, times, stored, given)),
};

async function measureBacklog(server: RunningTarget, waiting: number, given: Arguments): Promise<Sample> {
  const pairs = await enterOneTarget(server, given.pairs, given.textBytes);
  const sample: Sample = { lost: 0 };
  if (waiting > 0) {
    const meter = meterOf(server);
    const { acked, seconds } = await driveWindows(pairs, FILL_WINDOW, { ...FIRST_SECONDS, messages: waiting, meter });
    Object.assign(sample, { stored: acked / seconds, ...coresOf(server, meter, acked) });
  }
  const { seconds, loginMs, firstMs } = await fetchBacklog(server.receivers, pairs);
  Object.assign(sample, { loginMs, firstMs });
  if (waiting > 0) sample.fetched = waiting / seconds;
  await leavePairs(pairs);
  return sample;
}

export const backlog: Scenario = {
  name: "backlog",
  about: "messages that wait for one user, from 50 others: what storing them costs, the log-in, and fetching them",
  cases: (given) =>
    points(
      given.backlog,
      "waiting",
      (waiting) => (build, times) =>
        during(startServer(build), (server) => repeat(times, () => measureBacklog(server, waiting, given))),
    ),
};
