// One soak: a cluster, a crowd that writes on it, faults, and at the end what came of it all.

import { Redis } from "ioredis";
import { until } from "../harness.ts";
import { databaseOf } from "../services.ts";
import { Crowd } from "./crowd.ts";
import type { Fault } from "./fault.ts";
import { Findings, Ledger } from "./ledger.ts";
import { Protocol } from "./protocol.ts";
import { Random } from "./random.ts";
import { Recovery } from "./recovery.ts";
import { descriptorsOf, Memory } from "./resources.ts";
import { Schedule } from "./schedule.ts";
import { compareStore, type StoreCount, type StoredRow } from "./store-check.ts";
import { Cluster } from "./world.ts";

export interface SoakOptions {
  seed: number;
  /** How long the faults go on. */
  ms: number;
  users: number;
  rate: number;
  instances: number;
  faults: Fault[];
  /** In a short soak: all faults together, none alone, until there were so many; 0: a long one. */
  crowded: number;
  /** No wait of a fault is longer. */
  longestMs: number;
  /** For everything to come to rest after the last fault; left out: 90 s. */
  restMs?: number;
  /** A folder for what happened when, and the servers' logs. */
  log: string | null;
  /** Told every ten seconds how it goes, and of what is found at once. */
  tell(line: string): void;
}

export interface Outcome {
  options: SoakOptions;
  seconds: number;
  schedule: Schedule;
  ledger: Ledger;
  findings: Findings;
  recovery: Recovery;
  store: StoreCount;
  memories: Memory[];
  /** Of the instance that is never ended, and of Redis: before the crowd came and after it had gone. */
  descriptors: [number, number];
  keys: [number, number];
}

/** A slow machine may take so many times longer for its faults. */
const CROWDED_LONGER = 4;
const PROGRESS_MS = 10_000;
const REST_MS = 90_000;
/** Connections to the database that a server keeps once it has needed them. */
export const POOL = 10;
const PAGE_ROWS = 20_000;

export async function soak(options: SoakOptions): Promise<Outcome> {
  const { tell } = options;
  const protocol = new Protocol(options.log);
  const findings = new Findings((line) => {
    tell(line);
    protocol.note(line);
  });
  const random = new Random(options.seed);
  const ledger = new Ledger(findings);
  const recovery = new Recovery();
  recovery.tell = (line) => protocol.note(line);
  const cluster = await Cluster.start(options.instances, options.longestMs, findings, protocol);
  const { instances } = cluster;
  const crowd = new Crowd(options, instances, ledger, recovery, random.fork());
  const schedule = new Schedule(options.faults, random.fork(), cluster, recovery, findings, protocol, (...of) =>
    cluster.worldOf(of[0], crowd.devices, recovery, of[1], of[2]),
  );
  const memories: Memory[] = [];
  try {
    const before = await idle(cluster);
    const startedAt = performance.now();
    await crowd.gather();
    crowd.write();
    const watch = setInterval(() => {
      look(cluster, memories);
      crowd.check();
      const line = progress(performance.now() - startedAt, ledger, findings, schedule);
      tell(line);
      protocol.note(line);
    }, PROGRESS_MS);
    const end = performance.now() + options.ms;
    const lasts = setTimeout(() => cluster.end(), options.ms * (options.crowded > 0 ? CROWDED_LONGER : 1));
    await (options.crowded > 0 ? schedule.runTogether(end, options.crowded) : schedule.run());
    clearTimeout(lasts);
    cluster.end();
    await crowd.rest(options.restMs ?? REST_MS);
    clearInterval(watch);
    look(cluster, memories);
    const seconds = (performance.now() - startedAt) / 1000;
    const store = await compareStore(ledger, (conv, above) => readPage(cluster, conv, above));
    await crowd.close();
    const after = await idle(cluster, before);
    return {
      ...{ options, seconds, schedule, ledger, findings, recovery, store, memories },
      descriptors: [before.descriptors, after.descriptors],
      keys: [before.keys, after.keys],
    };
  } finally {
    for (const { index, running } of instances) protocol.server(index, running?.log() ?? "");
    await cluster.stop();
  }
}

function progress(ms: number, ledger: Ledger, findings: Findings, schedule: Schedule): string {
  const seconds = Math.round(ms / 1000);
  const time = `${String(Math.floor(seconds / 60)).padStart(2)}:${String(seconds % 60).padStart(2, "0")}`;
  const bad = Object.entries(findings.counts).map(([name, count]) => `${name} ${count}`);
  const number = (value: number) => value.toLocaleString("en");
  const faults = `${schedule.injected} faults${schedule.active.map((name, i) => `${i === 0 ? ": " : ", "}${name}`).join("")}`;
  return `${time}  acked ${number(ledger.acked)}  received ${number(ledger.told)}  ${bad.join("  ")}  ${faults}`;
}

/** Follows every process by itself. */
function look({ instances }: Cluster, memories: Memory[]): void {
  for (const { running, startedAt } of instances) {
    if (running === null) continue;
    let memory = memories.find(({ pid }) => pid === running.pid);
    if (memory === undefined) {
      memory = new Memory(running.pid, startedAt);
      memories.push(memory);
    }
    memory.look(performance.now());
  }
}

interface Idle {
  descriptors: number;
  keys: number;
}

/** What is held while nobody is there: once it is back to what it was `before`, or does not get there. */
async function idle({ instances, redis }: Cluster, before?: Idle): Promise<Idle> {
  const client = new Redis(redis.url);
  const take = async () => ({
    descriptors: descriptorsOf(instances[0]!.running?.pid ?? 0),
    keys: await client.dbsize(),
  });
  try {
    let now = await take();
    if (before === undefined) {
      await Bun.sleep(3_000);
      return await take();
    }
    const isBack = async () => {
      now = await take();
      return now.descriptors <= before.descriptors + POOL && now.keys <= before.keys;
    };
    await until(isBack, "all is given back", 30_000).catch(() => undefined);
    return now;
  } finally {
    client.disconnect();
  }
}

async function readPage({ mariadb, databaseUrl }: Cluster, conv: string, above: number): Promise<StoredRow[]> {
  const [low, high = "0"] = conv.slice(2).split("-");
  const name = databaseOf(databaseUrl);
  const rows = await mariadb.admin(
    `SELECT m.seq, CONVERT(m.mid USING utf8mb4) AS mid, m.body FROM ${name}.message m
     JOIN ${name}.conversation c ON c.id = m.conversation
     WHERE c.kind = ${conv.startsWith("g:") ? 1 : 0} AND c.lo = ${low} AND c.hi = ${high} AND m.seq > ${above}
     ORDER BY m.seq LIMIT ${PAGE_ROWS}`,
  );
  return rows.map((row) => ({ conv, ...row })) as unknown as StoredRow[];
}
