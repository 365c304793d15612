// The cluster that the soak breaks: MariaDB, Redis and instances of the executable, each behind gates of its own.
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { CHAT_SERVER, temporaryFolder } from "../harness.ts";
import { type RunningMariadb, type RunningRedis, startMariadb, startRedis } from "../services.ts";
import { startSmallDisk, whyNoSmallDisk } from "../small-disk.ts";
import { Claims } from "./claims.ts";
import type { Device, Mark, World } from "./fault.ts";
import { CLOCK_INSTANCE, theClock } from "./faults-clock.ts";
import { Gate } from "./gate.ts";
import { SoakInstance, stablePort } from "./instance.ts";
import type { Findings } from "./ledger.ts";
import type { Protocol } from "./protocol.ts";
import type { Random } from "./random.ts";
import type { Activity, Recovery } from "./recovery.ts";

/** Of the memory only what is used; the disk that runs full is made as small as what is on it. */
const DISK_MIB = 8_192;
/** A million messages must not be what the database's smallest settings are about. */
const MARIADB = ["--innodb-buffer-pool-size=256M", "--innodb-log-file-size=128M", "--max-connections=200"];

export class Cluster {
  readonly claims = new Claims();
  private readonly ended = Promise.withResolvers<void>();
  isEnding = false;

  private constructor(
    readonly mariadb: RunningMariadb,
    readonly redis: RunningRedis,
    readonly databaseUrl: string,
    readonly instances: SoakInstance[],
    private readonly gates: Gate[],
    /** No wait of a fault is longer. */
    private readonly longestMs: number,
    private readonly findings: Findings,
  ) {}

  static async start(count: number, longestMs: number, findings: Findings, protocol: Protocol): Promise<Cluster> {
    const executable = join(temporaryFolder(), "ChatServer");
    copyFileSync(CHAT_SERVER, executable);
    const disk = whyNoSmallDisk() === null ? await startSmallDisk(DISK_MIB) : undefined;
    const [mariadb, redis] = await Promise.all([startMariadb(MARIADB, disk), startRedis()]);
    const mysqlUrl = await mariadb.database();
    const gates: Gate[] = [];
    const gateTo = (port: number) => {
      const gate = new Gate(() => [port]);
      gates.push(gate);
      return gate;
    };
    const instances: SoakInstance[] = [];
    for (let index = 0; index < count; index++) {
      const clock = index === CLOCK_INSTANCE ? theClock() : "";
      const prefix = typeof clock === "string" ? [] : clock.prefix;
      const surroundings = { executable, mysqlUrl, prefix, findings, protocol };
      const ways = [gateTo(mariadb.port), gateTo(redis.port)] as const;
      instances.push(new SoakInstance(index, await stablePort(), ...ways, surroundings));
    }
    await Promise.all(instances.map((instance) => instance.start()));
    return new Cluster(mariadb, redis, mysqlUrl, instances, gates, longestMs, findings);
  }

  /** The world as one injection sees it. */
  worldOf(
    random: Random,
    devices: readonly Device[],
    recovery: Recovery,
    activity: Activity,
    begin: (detail: string) => void,
  ): World {
    const { mariadb, redis, databaseUrl, instances, claims } = this;
    return {
      ...{ random, mariadb, redis, databaseUrl, instances, devices },
      spared: instances[0]!,
      claim: (...names) => claims.take(names),
      begin: (detail = "") => begin(detail),
      wait: (ms) => this.pause(Math.min(ms, this.longestMs)),
      find: (bad, what) => this.findings.add(bad, what),
      mark: (mark: Mark, instance) => recovery.mark(mark, activity, instance),
    };
  }

  /** No longer than until `end`. */
  async pause(ms: number): Promise<void> {
    const timer = Promise.withResolvers<void>();
    const handle = setTimeout(timer.resolve, ms);
    await Promise.race([timer.promise, this.ended.promise]);
    clearTimeout(handle);
  }

  /** All faults are lifted as soon as they can be. */
  end(): void {
    this.isEnding = true;
    this.ended.resolve();
  }

  async stop(): Promise<void> {
    await Promise.all(this.instances.map((instance) => instance.kill("SIGKILL")));
    for (const gate of this.gates) gate.stop();
    await Promise.all([this.mariadb.stop(), this.redis.stop()]);
  }
}
