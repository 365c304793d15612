// Composition root of ./ChatServer: wiring, listening, signals. Exit codes: 0 drained, 1 cannot start or go on, 2 wrong
// flags.
import { readFileSync } from "node:fs";
import { readOptions, UsageError, VERSION } from "./cli.ts";
import { formatAddress } from "./flag-values.ts";
import { createLog } from "./log.ts";
import { Server } from "./net/server.ts";
import { readTls, tlsVersion } from "./net/tls.ts";
import { openStore } from "./open-store.ts";
import { returnMemoryWhenQuiet } from "./quiet.ts";
import { RedisRouter } from "./router/redis.ts";
import { startErrorOf } from "./router/redis-client.ts";
import { describeTarget } from "./router/redis-url.ts";
import type { RouterEvents } from "./router/router.ts";
import { RateLimitedLog } from "./service/log.ts";
import { Service } from "./service/service.ts";
import { StartError } from "./start-error.ts";
import { Notifier, passedSocket } from "./systemd.ts";

/** File descriptors that the server needs beside its connections. */
const RESERVED_FILES = 64;
/** Connections above the limit that are answered with a refusal, if the limit of open files allows. */
const MAX_OVER_LIMIT = 256;
/** A second signal this soon is an echo (a terminal's Ctrl-C may arrive twice); a later one means: exit now. */
const ECHO_MS = 500;
/** The share of the drain time for connections; the rest is the store's. */
const DRAIN_SHARE = 0.8;

/** How often the certificate's files are checked. */
const TLS_CHECK_MS = 5_000;

async function main(): Promise<void> {
  const argv = process.argv.slice(2);
  if (argv[0] === "copy" || argv[0] === "import") {
    // Loaded only when needed.
    const { runCommand } = await import("./tools/cli.ts");
    return runCommand(argv[0], argv.slice(1), process.env);
  }
  const options = readOptions(argv, process.env);
  if (options === null) return;
  const log = createLog(options.logLevel);
  process.on("uncaughtException", (error) => log.error(`bug: ${error.stack}`));
  process.on("unhandledRejection", (error) => log.error(`bug: ${error instanceof Error ? error.stack : error}`));
  /** When draining began, performance.now(). */
  let stopping: number | null = null;
  // There is nothing to drain yet.
  let stop = (_signal: string): unknown => process.exit(0);
  for (const signal of ["SIGTERM", "SIGINT", ...(ignoresHangup() ? [] : ["SIGHUP"])])
    process.on(signal, () => stop(signal));
  // Files of the database must not be readable by other users.
  process.umask(0o077);

  const { store, description } = await openStore(options, log, (why) => {
    // It would refuse everything from now on: whoever supervises this process starts another one.
    log.error(`the store's thread has ended, so the server exits: ${why}`);
    process.exit(1);
  });
  const fresh = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex");
  const secret = await store.setting("token_secret", fresh).catch((error: Error) => {
    throw new StartError(`${description} cannot be written (${error.message}): check its disk`);
  });
  const { redis: target, redisPrefix } = options;
  // Users' ids say nothing about which service's they are: one that shares this Redis must not be heard.
  const prefix = `${redisPrefix}${new Bun.CryptoHasher("sha256").update(secret).digest("hex").slice(0, 16)}:`;
  const openRouter =
    target === null
      ? null
      : (boot: string, events: RouterEvents) => new RedisRouter({ target, prefix, boot, log }, events);
  const service = new Service(
    store,
    secret,
    {
      tokenTtlMs: options.tokenTtl * 1000,
      storeTimeoutMs: options.storeTimeout * 1000,
      memoryKiB: options.passwordMemory * 1024,
      passes: options.passwordTime,
      queueLimit: options.passwordQueue,
    },
    openRouter,
    log,
  );
  await service.connected().catch((error: Error) => {
    throw startErrorOf(error, target!, redisPrefix);
  });
  const fileLimit = maxFiles();
  const maxOverLimit = Math.min(MAX_OVER_LIMIT, Math.floor(fileLimit / 10));
  const maxConnections = Math.min(options.maxConnections, fileLimit - RESERVED_FILES - maxOverLimit);
  if (maxConnections < 1)
    throw new StartError(`a limit of ${fileLimit} open files is too low: raise it (ulimit -n, LimitNOFILE=) to 1024`);
  // Taken before the files are read, so that no change is missed.
  let served = options.tls === null ? null : tlsVersion(options.tls);
  const onRefused = (address: string, reason: string) => log.debug(`connection from ${address} closed: ${reason}`);
  const rateLimitedLog = new RateLimitedLog(log);
  const onFull = () =>
    rateLimitedLog.warn(`connection refused: all ${maxConnections} are in use (see --max-connections and ulimit -n)`);
  const server = new Server(
    {
      host: options.host,
      port: options.port,
      inherited: passedSocket(process.env),
      maxConnections,
      maxOverLimit,
      onFull,
      maxFrameBytes: options.maxFrame,
      maxInFlight: options.maxInFlight,
      highWaterBytes: options.highWater,
      writeTimeoutMs: options.writeTimeout * 1000,
      loginTimeoutMs: options.loginTimeout * 1000,
      idleTimeoutMs: options.idleTimeout * 1000,
      tls: options.tls === null ? null : readTls(options.tls),
      proxy: options.proxyProtocol ? { trusted: options.trustProxy, onRefused } : null,
    },
    service,
    service.overload,
  );
  for (const name of options.strayVariables) log.warn(`${name} is not an option: see --help`);
  if (maxConnections < options.maxConnections)
    log.debug(`the open-file limit allows ${maxConnections} connections: raise it with ulimit -n or LimitNOFILE=`);
  log.info(`ChatServer ${VERSION}, process ${process.pid}`);
  log.info(`store: ${description}`);
  if (target !== null) log.info(`between instances: Redis ${describeTarget(target)}`);
  log.info(
    `limits: ${maxConnections} connections, ${options.maxFrame} bytes per message, ${options.maxInFlight} requests in flight`,
  );
  if (options.tls !== null) log.info(`TLS: certificate ${options.tls.certificate}`);
  if (options.proxyProtocol)
    log.info(`client addresses: from PROXY headers sent by ${options.trustProxy}; connections without one are closed`);
  const { host, port } = server.address;
  log.info(`listening on ${formatAddress(host, port)}`);
  const notifier = new Notifier(
    process.env,
    () => `${stopping === null ? "" : "draining, "}connections: ${server.size}`,
  );
  if (!notifier.ready()) log.warn(`cannot notify systemd at ${process.env.NOTIFY_SOCKET}`);
  service.warmUp();
  returnMemoryWhenQuiet(() => {
    const { rss } = process.memoryUsage();
    log.debug(`quiet: memory was given back, ${Math.round(rss / 2 ** 20)} MiB are in use`);
  });

  if (options.tls !== null) {
    const files = options.tls;
    let told = "";
    const renew = () => {
      const version = tlsVersion(files);
      if (version === served || stopping !== null) return;
      try {
        server.replaceTls(readTls(files));
        served = version;
        told = "";
        log.info("certificate reloaded: new connections use it");
      } catch (error) {
        // Tried again even if the files do not change: the obstacle may be elsewhere, such as a missing permission.
        const failure = `${version}: ${(error as Error).message}`;
        if (failure !== told)
          log.warn(`the new certificate cannot be used, so the old one stays in use: ${(error as Error).message}`);
        told = failure;
      }
    };
    setInterval(renew, TLS_CHECK_MS);
  }

  stop = async (signal) => {
    if (stopping !== null) {
      if (performance.now() - stopping > ECHO_MS) process.exit(1);
      return;
    }
    stopping = performance.now();
    const limitMs = options.drainTimeout * 1000;
    log.info(`${signal}: draining ${server.size} connections`);
    notifier.stopping(limitMs);
    server.stopListening();
    const drained = service.drain(server, limitMs * DRAIN_SHARE).then(async (inTime) => {
      if (!inTime) log.warn(`not drained in time: closing ${server.size} connections`);
      await store.close();
    });
    await Promise.race([drained, Bun.sleep(limitMs)]);
    log.info("stopped");
    process.exit(0);
  };
}

/** Whether this process was started to outlive its terminal, as by nohup; false where the system does not say. */
function ignoresHangup(): boolean {
  try {
    const ignored = /^SigIgn:\s+(\w+)/m.exec(readFileSync("/proc/self/status", "utf8"));
    return ignored !== null && (BigInt(`0x${ignored[1]}`) & 1n) === 1n;
  } catch {
    return false;
  }
}

/** How many files this process may open; infinite where the system does not say. */
function maxFiles(): number {
  try {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
    return limit === null ? Number.POSITIVE_INFINITY : Number(limit[1]);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

function fail(error: unknown): never {
  const isKnown = error instanceof UsageError || error instanceof StartError;
  process.stderr.write(`ChatServer: ${isKnown ? error.message : (error as Error).stack}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
}

main().catch(fail);
