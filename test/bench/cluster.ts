// Two instances on MariaDB and Redis, with every sender on another instance than its receiver, beside what the parts
// can do alone. All of it, this process too, shares the machine's processors.
import { MsgId } from "../../src/protocol.ts";
import { type RunningCluster, startCluster } from "../cluster.ts";
import { until } from "../harness.ts";
import type { Arguments } from "./arguments.ts";
import { BEGIN, enterGroup, leaveGroup, runGroup, SENDERS } from "./group-load.ts";
import { LATE_MS, type Measured, run } from "./load.ts";
import { Meter } from "./meter.ts";
import { HINTS, INSERT_CONNECTIONS, INSERT_ROWS, insertRate, publishRate } from "./parts.ts";
import { header, machine, median, row, share } from "./report.ts";

/** Durable, as is the default, and large enough that nothing but the log's fsync waits for the disk. */
const MARIADB = [
  "--innodb-flush-log-at-trx-commit=1",
  "--innodb-buffer-pool-size=512M",
  "--innodb-log-file-size=512M",
  "--innodb-log-buffer-size=16M",
];

interface Sample {
  /** Rows, hints, messages or deliveries a second. */
  rate: number;
  acked?: number;
  p50?: number;
  p99?: number;
  /** Shares of one core: both instances, MariaDB, Redis, and this process. */
  cores: number[];
}

type Measure = (meter: Meter) => Promise<Omit<Sample, "cores">>;

/** What is measured, once in every run. */
interface Scenario {
  name: string;
  window: number | "";
  measure: Measure;
  samples: Sample[];
}

const scenario = (name: string, window: number | "", measure: Measure): Scenario => ({
  name,
  window,
  measure,
  samples: [],
});

const INSERTS = `INSERTs of ${INSERT_ROWS} rows, ${INSERT_CONNECTIONS} connections: rows/s`;

const sampleOf = ({ delivered, acked, seconds, p50, p99 }: Measured): Omit<Sample, "cores"> => ({
  rate: delivered / seconds,
  acked: acked / seconds,
  p50,
  p99,
});

export async function benchCluster(given: Arguments): Promise<void> {
  const { runs, seconds, pairs, textBytes } = given;
  const cluster = await startCluster(true, MARIADB);
  try {
    const instances = [await cluster.start(), await cluster.start()];
    const pids = [...instances.map(({ pid }) => pid), cluster.mariadb.pid, cluster.redis!.pid, process.pid];
    const stored = { sent: 0 };
    const scenarios = [
      ...(await partsOf(cluster, given)),
      ...chatsOf(
        instances.map(({ port }) => port),
        given,
        stored,
      ),
    ];
    // The first run is none of them: compilers and caches are warm then.
    for (let i = 0; i <= runs; i++)
      for (const { measure, samples } of scenarios) {
        await settle(cluster);
        const meter = new Meter(pids);
        const sample = await measure(meter);
        if (i > 0) samples.push({ ...sample, cores: meter.cores });
      }
    await compareStored(cluster, stored.sent);
    console.log(
      `${machine()}; ${pairs} pairs, ${textBytes}-byte texts, medians of ${runs} runs of ${seconds} s after one more; ${stored.sent} messages, none lost, doubled or out of order\n`,
    );
    print(scenarios);
  } finally {
    await cluster.stop();
  }
}

async function partsOf(
  { mariadb, redis, url }: RunningCluster,
  { textBytes, seconds }: Arguments,
): Promise<Scenario[]> {
  const from = new URL(url).pathname.slice(1);
  const parts = await mariadb.database("chat_parts");
  const inserts = async (connections: number, rows: number, meter: Meter) => {
    await mariadb.admin(`DROP TABLE IF EXISTS chat_parts.message`);
    await mariadb.admin(`CREATE TABLE chat_parts.message LIKE ${from}.message`);
    return { rate: await insertRate(parts, connections, rows, textBytes, seconds, meter) };
  };
  return [
    scenario(INSERTS, "", (meter) => inserts(INSERT_CONNECTIONS, INSERT_ROWS, meter)),
    scenario("INSERTs of 1 row, 1 connection: rows/s", "", (meter) => inserts(1, 1, meter)),
    scenario(`publishes of ${HINTS} hints: hints/s`, "", async (meter) => ({
      rate: await publishRate(redis!.url, textBytes, seconds, meter),
    })),
  ];
}

function chatsOf(ports: number[], given: Arguments, stored: { sent: number }): Scenario[] {
  const { pairs, textBytes, seconds, windows, groups, groupWindow } = given;
  const [senders, receivers] = ports as [number, number];
  const direct = windows.map((window) =>
    scenario(`${pairs} pairs: messages/s`, window, async (meter) => {
      const measured = await run({ senders, receivers }, { pairs, window, textBytes, seconds, meter });
      stored.sent += measured.sent;
      return sampleOf(measured);
    }),
  );
  const inGroups = groups.map((size) =>
    scenario(`group of ${size}, ${SENDERS} senders: deliveries/s`, groupWindow, async (meter) => {
      const group = await enterGroup(ports, size);
      const measured = await runGroup(group, { window: groupWindow, textBytes, seconds, meter });
      leaveGroup(group);
      stored.sent += measured.sent;
      return sampleOf(measured);
    }),
  );
  return [...direct, ...inGroups];
}

/** Waits until the instances have closed all sessions of the measurement before. */
async function settle({ mariadb, url }: RunningCluster): Promise<void> {
  const online = `SELECT COUNT(*) AS online FROM ${new URL(url).pathname.slice(1)}.device WHERE boot <> ''`;
  await until(async () => (await mariadb.admin(online))[0]!.online === 0, "all sessions are closed", LATE_MS);
}

/** Throws where the store holds other than what was sent. */
async function compareStored({ mariadb, url }: RunningCluster, sent: number): Promise<void> {
  const from = new URL(url).pathname.slice(1);
  const count = `SELECT COUNT(*) AS stored FROM ${from}.message WHERE kind IN (${MsgId.chat}, ${MsgId.groupChat}) AND mid NOT LIKE "${BEGIN}%"`;
  const [row] = await mariadb.admin(count);
  if (row!.stored !== sent) throw new Error(`${sent} messages were sent, ${row!.stored} are stored`);
}

function print(scenarios: Scenario[]): void {
  const limit = median(scenarios.find(({ name }) => name === INSERTS)!.samples, ({ rate }) => rate);
  header([
    "",
    "window",
    "rate",
    "acked/s",
    "p50 ms",
    "p99 ms",
    "CPU senders' instance",
    "receivers'",
    "MariaDB",
    "Redis",
    "load",
    "stored/s of the INSERTs",
  ]);
  for (const { name, window, samples } of scenarios) {
    const isChat = samples[0]!.acked !== undefined;
    const acked = isChat ? Math.round(median(samples, (sample) => sample.acked!)) : 0;
    row([
      name,
      window,
      Math.round(median(samples, ({ rate }) => rate)),
      isChat ? acked : "",
      isChat ? median(samples, (sample) => sample.p50!).toFixed(2) : "",
      isChat ? median(samples, (sample) => sample.p99!).toFixed(2) : "",
      ...samples[0]!.cores.map((_, i) => median(samples, ({ cores }) => cores[i]!).toFixed(2)),
      isChat ? share(acked, limit) : "",
    ]);
  }
}
