// Flags and environment -> typed options. The only reader of argv and env.
import { homedir } from "node:os";
import { join } from "node:path";
import { type CAC, cac } from "cac";
import type { MysqlTarget } from "./db/mysql-connection.ts";
import { MYSQL_FORM, parseMysqlUrl } from "./db/mysql-url.ts";
import { bareHost, parseYesNo } from "./flag-values.ts";
import { Networks } from "./net/networks.ts";
import { printAnswer } from "./print.ts";
import { DEFAULT_MAX_FRAME_BYTES, MAX_FRAME_BYTES } from "./protocol.ts";
import { parseRedisUrls, REDIS_FORMS, type RedisTarget } from "./router/redis-url.ts";

declare const BUILD_VERSION: string;
declare const BUILD_COMMIT: string;

/** Version and commit, defined by the build. */
export const VERSION = typeof BUILD_VERSION === "string" ? `${BUILD_VERSION} (${BUILD_COMMIT})` : "development";

/** A wrong flag or variable, as one line that says what is allowed. */
export class UsageError extends Error {}

export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;

type Parse<T> = (text: string) => T | undefined;

interface Flag<T> {
  /** Placeholder for the value in the help; "": a switch, for which the flag alone means yes. */
  value: string;
  help: string;
  /** The default, as it would be typed; that of `data` depends on the environment. */
  otherwise: string;
  /** What is allowed, for error messages. */
  allowed: string;
  parse: Parse<T>;
  /** May be given several times; the values are joined by commas. */
  many?: true;
  /** May hold a password: errors do not show the value. */
  secret?: true;
}

const UNITS: Record<string, number> = { "": 1, k: 1024, m: 1024 * 1024, s: 1, h: 3600, d: 86_400 };

function number(text: string, min: number, max: number, units: string, minute = 60): number | undefined {
  const match = /^(\d{1,12})([a-z]?)$/.exec(text.toLowerCase());
  if (match === null || !units.includes(match[2]!)) return undefined;
  const value = Number(match[1]) * (match[2] === "m" ? minute : UNITS[match[2]!]!);
  return value >= min && value <= max ? value : undefined;
}

const count = (help: string, otherwise: number, min: number, max: number): Flag<number> => ({
  value: "N",
  help,
  otherwise: String(otherwise),
  allowed: `a number from ${min} to ${max}`,
  parse: (text) => number(text, min, max, ""),
});

const bytes = (help: string, otherwise: number, min: number, max: number): Flag<number> => ({
  value: "BYTES",
  help,
  otherwise: String(otherwise),
  allowed: `a size from ${min} to ${max} bytes, such as 65536 or 64k`,
  parse: (text) => number(text, min, max, "km", UNITS.m),
});

const duration = (help: string, otherwise: string, min: number, max: number): Flag<number> => ({
  value: "TIME",
  help,
  otherwise,
  allowed: `a time from ${min} to ${max} seconds, such as 90, 90s, 5m or 7d`,
  parse: (text) => number(text, min, max, "smhd"),
});

const anyText = (value: string, help: string, otherwise: string): Flag<string> => ({
  value,
  help,
  otherwise,
  allowed: "a non-empty text",
  parse: (text) => text || undefined,
});

const yesOrNo = (help: string): Flag<boolean> => ({
  value: "",
  help,
  otherwise: "no",
  allowed: "one of 1, true, yes, 0, false, no",
  parse: parseYesNo,
});

/** The value of options that are not set. */
export const NONE = "none";

/** In the order of the help. `maxFrame` is set by --max-frame or the variable CHAT_MAX_FRAME. */
export const FLAGS = {
  host: {
    ...anyText("ADDRESS", "address to listen on", "0.0.0.0"),
    parse: (text) => bareHost(text) || undefined,
  } satisfies Flag<string>,
  data: anyText("FILE", "embedded database file", "$STATE_DIRECTORY/chat.db, else ~/.local/share/chatserver/chat.db"),
  mysql: {
    value: "URL",
    help: "database shared by several instances: mysql://user:password@host:port/database, with ?tls=yes for TLS",
    otherwise: NONE,
    allowed: MYSQL_FORM,
    secret: true,
    parse: (text) => (text === NONE ? null : parseMysqlUrl(text)),
  } satisfies Flag<MysqlTarget | null>,
  mysqlPasswordFile: anyText("FILE", "file with the password for --mysql, hidden from process listings", NONE),
  redis: {
    value: "URL",
    help: "Redis between the instances: redis://, rediss://, redis+sentinel:// or redis+cluster://; separate several by commas",
    otherwise: NONE,
    allowed: REDIS_FORMS,
    many: true,
    secret: true,
    parse: (text) => (text === NONE ? null : parseRedisUrls(text)),
  } satisfies Flag<RedisTarget | null>,
  redisPrefix: anyText("TEXT", "prefix of every key and channel in Redis", "chat:"),
  storeTimeout: duration("time a request may wait for the database, after which it gets errno 19", "5", 1, 60),
  tlsCert: anyText("FILE", "TLS certificate (PEM), reloaded when it changes", NONE),
  tlsKey: anyText("FILE", "private key of the certificate (PEM)", NONE),
  proxyProtocol: yesOrNo("require a PROXY protocol header (1 or 2) with the client's address on every connection"),
  trustProxy: {
    value: "NETWORKS",
    help: "networks whose PROXY headers are trusted; --proxy-protocol closes connections from elsewhere",
    otherwise: "127.0.0.0/8,::1/128",
    allowed: "a list of networks or addresses, such as 10.0.0.0/8,fd00::/8",
    parse: (text) => Networks.parse(text),
  } satisfies Flag<Networks>,
  maxFrame: bytes("largest message accepted from a client", DEFAULT_MAX_FRAME_BYTES, 1024, MAX_FRAME_BYTES),
  maxConnections: count("concurrent connections", 100_000, 1, 1_000_000),
  maxInFlight: count("unanswered requests per connection, above which the server stops reading it", 1024, 1, 65_536),
  highWater: bytes("unread output above which nothing more is pushed to a client", 1_048_576, 65_536, 1_073_741_824),
  writeTimeout: duration("how long a client may leave pending output unread before it is disconnected", "60", 1, 3_600),
  loginTimeout: duration("time allowed to log in", "60", 1, 86_400),
  idleTimeout: duration("silence after which a client that has sent a heartbeat is disconnected", "300", 1, 86_400),
  drainTimeout: duration("time allowed for a graceful shutdown after SIGTERM", "10", 1, 3_600),
  tokenTtl: duration("how long a login token stays valid", "7d", 1, 31_536_000),
  passwordMemory: count("memory per password hash (argon2id), MiB", 19, 1, 1024),
  passwordTime: count("passes per password hash", 2, 1, 100),
  passwordQueue: count("logins and registrations that may wait for a password hash", 512, 1, 100_000),
  logLevel: {
    value: "LEVEL",
    help: `least severe messages to log: ${LOG_LEVELS.join(", ")}`,
    otherwise: "info",
    allowed: `one of ${LOG_LEVELS.join(", ")}`,
    parse: (text) => LOG_LEVELS.find((level) => level === text),
  } satisfies Flag<(typeof LOG_LEVELS)[number]>,
};

type Flags = { [Name in keyof typeof FLAGS]: (typeof FLAGS)[Name] extends Flag<infer T> ? T : never };
export type Options = Flags & {
  port: number;
  /** --tls-cert and --tls-key; null where neither is given. */
  tls: { certificate: string; key: string } | null;
  /** Variables that look like options but are not. */
  strayVariables: string[];
};

const COMMANDS_HELP = {
  title: "Commands (each with a --help of its own)",
  body: `  copy    copies an embedded database into MySQL or MariaDB, for several instances
  import  imports the users, groups and messages of the C++ chat server's MySQL database`,
};

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
const variable = (name: string): string => `CHAT_${kebab(name).replaceAll("-", "_").toUpperCase()}`;

/**
 * Reads the options from `argv` (without the program's name) and `env`; null where help or the version was asked for
 * and has been printed. Throws UsageError.
 */
export function readOptions(argv: string[], env: Record<string, string | undefined>): Options | null {
  const cli = cac("ChatServer");
  const command = cli.command("[port]", "").usage("[port] [options]");
  const names = Object.keys(FLAGS) as (keyof typeof FLAGS)[];
  for (const name of names) {
    const { value, help, otherwise } = FLAGS[name];
    command.option(
      `--${kebab(name)}${value === "" ? "[=no]" : ` <${value}>`}`,
      `${help} (default ${otherwise}; $${variable(name)})`,
    );
  }
  cli.option("-v, --version", "Display the version");
  const portHelp = { title: "Port", body: "  port to listen on; 0: any free port (default 6000; $CHAT_PORT)" };
  cli.help((sections) =>
    sections
      .filter(({ title }) => !title?.startsWith("For more info"))
      .flatMap((section) => (section.title === "Commands" ? [portHelp, COMMANDS_HELP] : [section])),
  );
  cli.showHelpOnExit = false;
  let given: Record<string, unknown>;
  let args: readonly string[];
  try {
    ({ options: given, args } = cli.parse(["", "", ...markValues(argv)], { run: false }));
    if (given.version) printAnswer("ChatServer", `ChatServer ${VERSION}\n`);
    else if (given.help) printAnswer("ChatServer", `${helpOf(cli)}\n`);
    if (given.help || given.version) return null;
    command.checkOptionValue();
  } catch (error) {
    throw new UsageError(`${(error as Error).message}: see --help`);
  }
  const [portText, unexpected] = [...args, ...(given["--"] as string[])];
  if (unexpected !== undefined)
    throw new UsageError(
      `unexpected ${JSON.stringify(unexpected.slice(MARK.length))}: only the port is given without a flag, see --help`,
    );
  const port = read("port", portText, env.CHAT_PORT, count("", 6000, 0, 65_535));
  const flags = Object.fromEntries(
    names.map((name) => [name, read(name, given[name], env[variable(name)], FLAGS[name] as Flag<unknown>)]),
  ) as unknown as Flags;
  // With a shared database there need not even be a home directory.
  if (given.data === undefined && !env.CHAT_DATA && flags.mysql === null) flags.data = defaultDatabase(env);
  if (flags.redis !== null && flags.mysql === null)
    throw new UsageError("--redis: instances must share a database, give --mysql (a single instance needs neither)");
  if (flags.mysql !== null && given.data !== undefined)
    throw new UsageError("--data: cannot be combined with --mysql, which replaces the embedded database");
  const { tlsCert: certificate, tlsKey: key } = flags;
  if ((certificate === NONE) !== (key === NONE))
    throw new UsageError(
      `${certificate === NONE ? "--tls-key" : "--tls-cert"}: TLS needs both --tls-cert and --tls-key`,
    );
  const tls = certificate === NONE ? null : { certificate, key };
  if (tls !== null && flags.proxyProtocol)
    throw new UsageError("--proxy-protocol: cannot be combined with --tls-cert, let the proxy terminate TLS");
  const known = new Set(["CHAT_PORT", ...names.map(variable)]);
  const strayVariables = Object.keys(env).filter((name) => name.startsWith("CHAT_") && !known.has(name));
  return { ...flags, port, tls, strayVariables };
}

/** The help as a text. The library can only print it, by a call that does not report failures. */
function helpOf(cli: CAC): string {
  const { info } = console;
  let help = "";
  console.info = (text) => {
    help = text;
  };
  try {
    cli.outputHelp();
  } finally {
    console.info = info;
  }
  return help;
}

/** Prefixes every value passed through the parser, which would turn 007 into 7 and an empty text into 0. */
const MARK = "=";

/** `argv` for the parser, which would also take --host.x for --host and ignore --constructor: exact flags only. */
function markValues(argv: string[]): string[] {
  const flags = Object.entries(FLAGS).map(([name, { value }]) => ({ flag: `--${kebab(name)}`, value }));
  const known = new Set(["-h", "--help", "-v", "--version", ...flags.map(({ flag }) => flag)]);
  const switches = new Set(flags.filter(({ value }) => value === "").map(({ flag }) => flag));
  const end = [...argv, "--"].indexOf("--");
  const marked = argv.slice(0, end).map((arg) => {
    if (!arg.startsWith("-")) return MARK + arg;
    const flag = arg.split("=", 1)[0]!;
    if (!known.has(flag)) throw new Error(`unknown option ${JSON.stringify(flag)}`);
    if (arg !== flag) return `${flag}=${MARK}${arg.slice(flag.length + 1)}`;
    // Otherwise the parser would take the next argument for the switch's value.
    return switches.has(flag) ? `${flag}=${MARK}yes` : flag;
  });
  return [...marked, ...argv.slice(end, end + 1), ...argv.slice(end + 1).map((arg) => MARK + arg)];
}

/** A flag wins over its variable; an empty variable counts as not set. */
function read<T>(name: string, flag: unknown, env: string | undefined, definition: Flag<T>): T {
  const { allowed, otherwise, parse, many, secret } = definition;
  const source = flag !== undefined ? (name === "port" ? "port" : `--${kebab(name)}`) : variable(name);
  const given = flag === undefined ? [] : [flag].flat().map((each) => String(each).slice(MARK.length));
  if (given.length > 1 && !many) throw new UsageError(`${source}: given more than once`);
  const text = flag !== undefined ? given.join(",") : env || otherwise;
  const value = parse(text);
  if (value === undefined)
    throw new UsageError(`${source}: ${secret ? "the given value" : JSON.stringify(text)} is not ${allowed}`);
  return value;
}

/**
 * In systemd's state directory, else the user's data directory (XDG Base Directory Specification). Throws UsageError
 * where there is neither.
 */
export function defaultDatabase(env: Record<string, string | undefined>): string {
  // systemd separates several directories by colons.
  if (env.STATE_DIRECTORY) return join(env.STATE_DIRECTORY.split(":")[0]!, "chat.db");
  const data = env.XDG_DATA_HOME?.startsWith("/") ? env.XDG_DATA_HOME : join(env.HOME || home(), ".local", "share");
  return join(data, "chatserver", "chat.db");
}

function home(): string {
  try {
    return homedir();
  } catch {
    throw new UsageError("--data: there is no home directory, give a file");
  }
}
