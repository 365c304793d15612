// Two instances on MariaDB and Redis, with every sender on another instance than its receiver, beside what the parts can
// do alone. All of it, the load generator too, shares the machine's processors.
import { MsgId } from "../../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../../cluster.ts";
import { CHEAP_PASSWORDS, startAs, until } from "../../harness.ts";
import { databaseOf } from "../../services.ts";
import type { Arguments } from "../arguments.ts";
import { type Case, meterOf, type Sample, type Scenario, sampleOf, single } from "../case.ts";
import { BEGIN, driveGroup, enterGroup, leaveGroup } from "../load/group.ts";
import { driveWindows, enterPairs, leavePairs } from "../load/pairs.ts";
import type { Build, Target } from "../target.ts";
import { partsOf } from "./cluster-parts.ts";
import { measureTokens } from "./log-ins.ts";
import { storeAndFetch } from "./offline.ts";

/** Durable, as is the default, and large enough that nothing but the log's fsync waits for the disk. */
const MARIADB = [
  "--innodb-flush-log-at-trx-commit=1",
  "--innodb-buffer-pool-size=512M",
  "--innodb-log-file-size=512M",
  "--innodb-log-buffer-size=16M",
];
const GROUPS = [100, 1_000];
const SETTLE_MS = 30_000;

interface Place extends Target {
  services: RunningCluster;
  stop(): Promise<void>;
}

/** One for each build: each has a database of its own. They live until the scenario ends. */
const places = new Map<string, Promise<Place>>();

/** The build's two instances, with no session left of an earlier measurement. */
async function placeOf(build: Build): Promise<Place> {
  let opening = places.get(build.path);
  if (opening === undefined) {
    opening = openPlace(build);
    places.set(build.path, opening);
  }
  const place = await opening;
  await settle(place.services);
  return place;
}

async function openPlace(build: Build): Promise<Place> {
  const services = await startCluster(true, MARIADB);
  const flags = ["--mysql", services.url, "--redis", services.redis!.url, ...CHEAP_PASSWORDS];
  const start = () => startAs([build.path, "0", "--host", "127.0.0.1", ...flags]);
  const [senders, receivers] = [await start(), await start()];
  return {
    services,
    senders: senders.port,
    receivers: receivers.port,
    bare: false,
    processes: {
      "senders' instance": senders.pid,
      "receivers' instance": receivers.pid,
      MariaDB: services.mariadb.pid,
      Redis: services.redis!.pid,
    },
    stop: async () => {
      await Promise.all([senders.stop("SIGKILL"), receivers.stop("SIGKILL")]);
      await services.stop();
    },
  };
}

/** Waits until the instances have closed all sessions of the measurement before. */
async function settle(services: RunningCluster): Promise<void> {
  const online = `SELECT COUNT(*) AS online FROM ${databaseOf(services.url)}.device WHERE boot <> ''`;
  const rows = async () => (await services.mariadb.admin(online))[0]!.online;
  await until(async () => (await rows()) === 0, "all sessions are closed", SETTLE_MS);
}

/** Messages of the load in the store. */
async function countStored(services: RunningCluster): Promise<number> {
  const kinds = `${MsgId.chat}, ${MsgId.groupChat}`;
  const count = `SELECT COUNT(*) AS stored FROM ${databaseOf(services.url)}.message WHERE kind IN (${kinds}) AND mid NOT LIKE '${BEGIN}%'`;
  const [row] = await services.mariadb.admin(count);
  return row!.stored as number;
}

const inPlace = (name: string, measure: (place: Place) => Promise<Sample>): Case =>
  single(name, async (build) => {
    const place = await placeOf(build);
    try {
      return await measure(place);
    } catch (error) {
      // Its sessions would disturb the next measurement.
      places.delete(build.path);
      await place.stop();
      throw error;
    }
  });

/** `measure` gives what it sent beside its sample: exactly that must be in the store afterwards. */
const chat = (name: string, measure: (place: Place) => Promise<[sent: number, sample: Sample]>): Case =>
  inPlace(name, async (place) => {
    const before = await countStored(place.services);
    const [sent, sample] = await measure(place);
    const stored = (await countStored(place.services)) - before;
    if (stored !== sent) throw new Error(`${sent} messages were sent, ${stored} are stored`);
    return sample;
  });

const direct = (window: number, given: Arguments): Case =>
  chat(`window ${window}`, async (place) => {
    const pairs = await enterPairs(place, given.pairs, given.textBytes);
    const meter = meterOf(place);
    const measured = await driveWindows(pairs, window, { ...given, meter });
    await leavePairs(pairs);
    return [measured.sent, sampleOf(place, meter, measured)];
  });

const inGroup = (size: number, given: Arguments): Case =>
  chat(`group of ${size.toLocaleString("en")}`, async (place) => {
    const group = await enterGroup(place, size);
    const meter = meterOf(place);
    const measured = await driveGroup(group, given.groupWindow, given.textBytes, { ...given, meter });
    await leaveGroup(group);
    return [measured.sent, sampleOf(place, meter, measured)];
  });

const missing = ["mariadbd", "redis-server"].filter(
  (program) => Bun.which(program, { PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` }) === null,
);

export const cluster: Scenario = {
  name: "cluster",
  about: "two instances on durable MariaDB and Redis, senders on one, receivers on the other; beside the parts alone",
  unable: missing.length > 0 ? `${missing.join(" and ")} missing: apt-get install mariadb-server redis-server` : null,
  cases: (given) => [
    ...given.windows.map((window) => direct(window, given)),
    ...GROUPS.map((size) => inGroup(size, given)),
    inPlace("offline", (place) => storeAndFetch(place, given)),
    inPlace("log-ins with token", (place) => measureTokens(place, false, given)),
    ...partsOf(given, async (build) => (await placeOf(build)).services),
  ],
  close: async () => {
    const opened = [...places.values()];
    places.clear();
    await Promise.all(opened.map(async (place) => (await place).stop()));
  },
};
