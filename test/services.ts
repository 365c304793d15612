// Throw-away MariaDB and Redis for tests: Debian's programs on free ports of 127.0.0.1, in temporary folders.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createConnection } from "mysql2";
import { freePort, started, temporaryFolder } from "./harness.ts";
import type { SmallDisk } from "./small-disk.ts";

export interface RunningService {
  port: number;
  pid: number;
  /** SIGSTOP and SIGCONT: a machine that hangs. */
  pause(): void;
  resume(): void;
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** A connection with all rights that stands, and keeps the locks that it takes. */
export interface AdminSession {
  run(sql: string): Promise<void>;
  /** Ends it, with its transaction and its locks. */
  close(): void;
}

export interface RunningMariadb extends RunningService {
  /** What its data lies on; null where that is the machine's file system. */
  disk: SmallDisk | null;
  /** Of an account that may do what it likes in databases whose names begin with "chat". */
  url: string;
  /** Runs statements with all rights, and returns the rows of the last one. */
  admin(sql: string): Promise<Record<string, unknown>[]>;
  session(database: string): Promise<AdminSession>;
  /** Makes an empty database and returns the URL to it. */
  database(name?: string): Promise<string>;
}

/** The name of the database that a URL leads to. */
export const databaseOf = (url: string): string => new URL(url).pathname.slice(1);

/** InnoDB renews its list of transactions only where nobody has read it for 100 ms: asked more often, it never changes. */
const TRANSACTIONS_AGE_MS = 150;

/** The connections whose transactions are as `condition` says, of the columns of `innodb_trx`. */
export async function transactions(mariadb: RunningMariadb, condition: string): Promise<number[]> {
  await Bun.sleep(TRANSACTIONS_AGE_MS);
  const sql = `SELECT trx_mysql_thread_id AS id FROM information_schema.innodb_trx WHERE ${condition}`;
  return (await mariadb.admin(sql)).map(({ id }) => Number(id));
}

export interface RunningRedis extends RunningService {
  url: string;
}

const READY_MS = 20_000;
const USER = "chat";
const PASSWORD = "se:cr@t/%";

/** Where a program is; throws with the package that has it. */
function program(name: string, debianPackage: string): string {
  const path = Bun.which(name, { PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` });
  if (path === null) throw new Error(`${name} is missing: apt-get install ${debianPackage}`);
  return path;
}

/** Runs `command` until it answers `ready`, and again after each restart. */
async function startService(port: number, command: string[], ready: () => Promise<boolean>): Promise<RunningService> {
  let child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  let output = "";
  const collect = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    for await (const chunk of stream) output = (output + new TextDecoder().decode(chunk)).slice(-20_000);
  };
  const start = async () => {
    child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    started.add(child);
    collect(child.stdout);
    collect(child.stderr);
    const end = performance.now() + READY_MS;
    while (!(await ready())) {
      if (child.exitCode !== null || performance.now() > end)
        throw new Error(`${command[0]} on port ${port} was not ready in time:\n${output}`);
      await Bun.sleep(20);
    }
  };
  const end = async (signal: NodeJS.Signals) => {
    child.kill("SIGCONT");
    child.kill(signal);
    await child.exited;
    started.delete(child);
  };
  await start();
  return {
    port,
    get pid() {
      return child.pid;
    },
    pause: () => child.kill("SIGSTOP"),
    resume: () => child.kill("SIGCONT"),
    kill: () => end("SIGKILL"),
    restart: async () => {
      if (child.exitCode === null && child.signalCode === null) await end("SIGTERM");
      await start();
    },
    stop: () => end("SIGKILL"),
  };
}

/** An empty MariaDB; `flags` as for mariadbd. On `disk`, where that is given. */
export async function startMariadb(flags: string[] = [], disk?: SmallDisk): Promise<RunningMariadb> {
  const folder = temporaryFolder();
  const data = join(disk?.folder ?? folder, "data");
  const inside = disk?.inside ?? [];
  const install = program("mariadb-install-db", "mariadb-server");
  const server = program("mariadbd", "mariadb-server");
  // In namespaces of its own every user is root.
  const asRoot = process.getuid?.() === 0 || disk !== undefined ? ["--user=root"] : [];
  // Of its own: at its start a MariaDB removes what others have there.
  const temporary = `--tmpdir=${temporaryFolder()}`;
  const made = Bun.spawnSync([
    ...inside,
    install,
    "--no-defaults",
    `--datadir=${data}`,
    "--auth-root-authentication-method=normal",
    "--skip-test-db",
    "--innodb-log-file-size=16M",
    temporary,
    ...asRoot,
  ]);
  if (made.exitCode !== 0) throw new Error(`mariadb-install-db failed:\n${made.stdout}\n${made.stderr}`);
  const accounts = join(folder, "accounts.sql");
  writeFileSync(
    accounts,
    `CREATE USER IF NOT EXISTS '${USER}'@'%' IDENTIFIED BY '${PASSWORD}';
GRANT ALL ON \`chat%\`.* TO '${USER}'@'%';
CREATE USER IF NOT EXISTS 'stranger'@'%' IDENTIFIED BY 'stranger';
`,
  );
  const [port, adminPort] = [freePort(), freePort()];
  const admin = (sql: string) => query(adminPort, sql);
  const service = await startService(
    port,
    [
      ...inside,
      server,
      "--no-defaults",
      `--datadir=${data}`,
      `--socket=${join(folder, "s")}`,
      `--pid-file=${join(folder, "pid")}`,
      `--port=${port}`,
      // Where others have used up max_connections.
      `--extra-port=${adminPort}`,
      "--extra-max-connections=20",
      "--bind-address=127.0.0.1",
      `--init-file=${accounts}`,
      "--innodb-buffer-pool-size=64M",
      "--innodb-log-file-size=16M",
      "--performance-schema=OFF",
      "--skip-name-resolve",
      temporary,
      ...asRoot,
      ...flags,
    ],
    () =>
      admin("SELECT 1").then(
        () => true,
        () => false,
      ),
  );
  let databases = 0;
  const database = async (name = `chat${++databases}`) => {
    await admin(`CREATE DATABASE \`${name}\``);
    return `mysql://${USER}:${encodeURIComponent(PASSWORD)}@127.0.0.1:${port}/${name}`;
  };
  // In place: `pid` is a getter.
  const session = (name: string) => openSession(adminPort, name);
  return Object.assign(service, { url: await database("chat"), disk: disk ?? null, admin, session, database });
}

function openSession(port: number, database: string): Promise<AdminSession> {
  const { promise, resolve, reject } = Promise.withResolvers<AdminSession>();
  const connection = createConnection({ host: "127.0.0.1", port, user: "root", database });
  connection.on("error", reject);
  const run = (sql: string) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    connection.query(sql, (error) => (error ? reject(error) : resolve()));
    return promise;
  };
  connection.on("connect", () => resolve({ run, close: () => connection.destroy() }));
  return promise;
}

function query(port: number, sql: string): Promise<Record<string, unknown>[]> {
  const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>[]>();
  const connection = createConnection({ host: "127.0.0.1", port, user: "root", multipleStatements: true });
  connection.on("error", reject);
  connection.query(sql, (error, rows) => {
    connection.destroy();
    if (error) return reject(error);
    const last = Array.isArray(rows) ? rows.at(-1) : rows;
    resolve((Array.isArray(last) ? last : rows) as Record<string, unknown>[]);
  });
  return promise;
}

/** An empty Redis that keeps nothing on disk; `flags` as for redis-server, `first` before all others. */
export async function startRedis(flags: string[] = [], first: string[] = []): Promise<RunningRedis> {
  const server = program("redis-server", "redis-server");
  const port = freePort();
  const nothingKept = ["--save", "", "--appendonly", "no", "--dir", temporaryFolder()];
  const service = await startService(
    port,
    [server, ...first, "--port", String(port), "--bind", "127.0.0.1", ...nothingKept, ...flags],
    () => answersPing(port),
  );
  return Object.assign(service, { url: `redis://127.0.0.1:${port}` });
}

async function answersPing(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data: (_, answer) => resolve(/^(\+PONG|-NOAUTH)/.test(answer.toString())),
      close: () => resolve(false),
      error: () => resolve(false),
    },
  }).catch(() => null);
  if (socket === null) return false;
  socket.write("PING\r\n");
  const late = setTimeout(() => resolve(false), 1_000);
  const answered = await promise;
  clearTimeout(late);
  socket.end();
  return answered;
}
