// Several instances of the real executable on one throw-away MariaDB, with or without a Redis between them.
import { CHAT_SERVER, CHEAP_PASSWORDS, type RunningServer, startAs } from "./harness.ts";
import { type RunningMariadb, type RunningRedis, startMariadb, startRedis } from "./services.ts";

export interface RunningCluster {
  mariadb: RunningMariadb;
  /** Null where the instances have only the database between them. */
  redis: RunningRedis | null;
  /** Of the instances' database. */
  url: string;
  /** Starts one more instance. */
  start(flags?: string[]): Promise<RunningServer>;
  stop(): Promise<void>;
}

/** With a Redis of its own, without, or with one that others use too; `mariadbFlags` as for mariadbd. */
export async function startCluster(
  withRedis: boolean | RunningRedis = true,
  mariadbFlags: string[] = [],
): Promise<RunningCluster> {
  const shared = typeof withRedis === "boolean" ? null : withRedis;
  const [mariadb, own] = await Promise.all([
    startMariadb(mariadbFlags),
    shared === null && withRedis ? startRedis() : null,
  ]);
  const redis = shared ?? own;
  const url = await mariadb.database();
  const instances = new Set<RunningServer>();
  return {
    mariadb,
    redis,
    url,
    start: async (flags = []) => {
      const between = redis === null ? [] : ["--redis", redis.url];
      const command = [
        CHAT_SERVER,
        "0",
        "--host",
        "127.0.0.1",
        "--mysql",
        url,
        ...between,
        ...CHEAP_PASSWORDS,
        ...flags,
      ];
      const instance = await startAs(command);
      instances.add(instance);
      instance.exited.then(() => instances.delete(instance));
      return instance;
    },
    stop: async () => {
      await Promise.all([...instances].map((instance) => instance.stop("SIGKILL")));
      await Promise.all([mariadb.stop(), own?.stop()]);
    },
  };
}
