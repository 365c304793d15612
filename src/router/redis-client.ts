// Connections to Redis: a single server, the master named by Sentinels, or a cluster. The only file that knows ioredis.
import { Cluster, Redis } from "ioredis";
import { certificateRule } from "../flag-values.ts";
import { StartError } from "../start-error.ts";
import { describeTarget, type RedisTarget } from "./redis-url.ts";

export type Client = Redis | Cluster;

const CONNECT_TIMEOUT_MS = 1_000;
/** A command that takes longer fails. */
const COMMAND_TIMEOUT_MS = 1_000;
/** A connection on which nothing arrives for this long after a command is dead, and is made anew. */
const SILENCE_MS = 2_000;

/** Connects, and reconnects after each loss; commands fail meanwhile. */
export function connect(target: RedisTarget): Client {
  const { username, password, tls } = target;
  const common = {
    username,
    password,
    ...(tls ? { tls: {} } : {}),
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: COMMAND_TIMEOUT_MS,
    socketTimeout: SILENCE_MS,
    enableOfflineQueue: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (times: number) => Math.min(50 * 2 ** Math.min(times, 6), 500),
  };
  switch (target.kind) {
    case "single":
      return new Redis({ ...common, ...target.address, db: target.db });
    case "sentinel":
      return new Redis({
        ...common,
        sentinels: target.addresses,
        name: target.master,
        db: target.db,
        sentinelUsername: username,
        sentinelPassword: password,
        sentinelRetryStrategy: common.retryStrategy,
      });
    case "cluster":
      return new Cluster(target.addresses, {
        enableOfflineQueue: false,
        clusterRetryStrategy: common.retryStrategy,
        redisOptions: { ...common },
      });
  }
}

/** Rejects where `target`'s database does not exist: otherwise database 0 would silently be used. */
export async function checkDatabase(client: Client, target: RedisTarget): Promise<void> {
  if (target.kind !== "cluster" && target.db > 0) await client.select(target.db);
}

/** Whether the error only says that there is no connection: the failed attempt to connect says why. */
export const isDisconnected = (message: string): boolean =>
  /enableOfflineQueue|max retries per request|^Connection is closed/.test(message);

const NO_DATABASE = /DB index is out of range|not allowed in cluster mode/;

/** Whether Redis rejects this instance, so that waiting does not help. */
export const isRefusal = (message: string): boolean =>
  /WRONGPASS|NOAUTH|NOPERM|AUTH/.test(message) || NO_DATABASE.test(message);

/** Why Redis cannot be used at start, in one line that says what to do. `prefix`: of keys and channels. */
export function startErrorOf({ message }: Error, target: RedisTarget, prefix: string): StartError {
  const where = `Redis at ${describeTarget(target)}`;
  if (target.kind !== "cluster" && NO_DATABASE.test(message))
    return new StartError(`${where} has no database ${target.db}: check --redis`);
  if (message.includes("NOPERM")) {
    const user = target.username ?? "default";
    return new StartError(
      `${where} gives user ${user} too few rights (${message}): ACL SETUSER ${user} ~${prefix}* &${prefix}* +@all`,
    );
  }
  if (isRefusal(message))
    return new StartError(`${where} refuses the login (${message}): check user and password of --redis`);
  // All that OpenSSL and the runtime say about a certificate contains the word.
  if (target.kind === "single" && target.tls && message.includes("certificate"))
    return new StartError(`TLS with ${where} fails (${message}): ${certificateRule(target.address.host)}`);
  const protocol = target.tls ? "rediss:// is for a port with TLS" : "a port with TLS needs rediss://";
  if (/ECONNRESET|EPIPE/.test(message))
    return new StartError(
      `${where} ends the connection (${message}): check --redis (${protocol}), and whether Redis' maxclients is reached`,
    );
  const hint = target.tls ? ` (${protocol})` : "";
  return new StartError(`${where} does not answer (${message}): start it, or check --redis${hint}`);
}
