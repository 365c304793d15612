// What can be wrong with a MySQL or MariaDB server at start, explained with what to do.
import { readFileSync } from "node:fs";
import { certificateRule, formatAddress } from "../flag-values.ts";
import { StartError } from "../start-error.ts";
import { ConnectionLost, DatabaseError, type MysqlConnection, type MysqlTarget } from "./mysql-connection.ts";

export const SET_CHARSET = "SET NAMES utf8mb4";
/** The settings of every connection; the statements of batches rely on them. */
const SESSION = [
  // Whatever the server made of the handshake's charset: in some others, escaped texts could break out of their quotes.
  SET_CHARSET,
  "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
  // Explicitly, because with NO_BACKSLASH_ESCAPES escaped texts could break out of their quotes.
  "SET SESSION autocommit = 1, sql_mode = 'STRICT_ALL_TABLES', innodb_lock_wait_timeout = 3, time_zone = '+00:00'",
  "SET SESSION completion_type = 0, sql_safe_updates = 0, sql_select_limit = 18446744073709551615",
];
/** Limits how long a paused writer holds locks; makes IN lists be read in index order instead of joined. */
const MARIADB = "SET SESSION idle_transaction_timeout = 2, in_predicate_conversion_threshold = 0";

/** `target`, with the password read from `file` if one is given. Throws StartError. */
export const withPassword = (target: MysqlTarget, file?: string): MysqlTarget =>
  file === undefined ? target : { ...target, password: readPassword(file) };

function readPassword(file: string): string {
  try {
    return readFileSync(file, "utf8").replace(/\r?\n$/, "");
  } catch (error) {
    throw new StartError(`the password file ${file} cannot be read (${(error as { code?: string }).code})`);
  }
}

/** For logs and messages: without user and password. */
export const describe = ({ host, port, database }: MysqlTarget): string => `${formatAddress(host, port)}/${database}`;

/** Facts about the server. */
export interface Server {
  version: string;
  /** The most bytes one packet may have. */
  maxPacketBytes: number;
}

/** Sets up the session. Throws StartError where the server is too old. */
export async function prepare(connection: MysqlConnection, timeoutMs: number): Promise<Server> {
  const [found] = await connection.query(["SELECT VERSION(), @@max_allowed_packet"], timeoutMs);
  const [version, maxPacketBytes] = found!.rows[0] as [string, number];
  const mariadb = isMariadb(version);
  await connection.query(mariadb ? [...SESSION, MARIADB] : SESSION, timeoutMs);
  return { version, maxPacketBytes };
}

/** Whether it is MariaDB rather than MySQL. Throws StartError where it is too old for our statements. */
export function isMariadb(version: string): boolean {
  const mariadb = /mariadb/i.test(version);
  // Old MariaDB servers put "5.5.5-" before their own version.
  const [major = 0, minor = 0] = version
    .replace(/^5\.5\.5-(?=\d)/, "")
    .split(".")
    .map(Number.parseFloat);
  if (mariadb ? major * 100 + minor < 1006 : major < 8)
    throw new StartError(`the database is ${version}: MySQL 8.0, MariaDB 10.6 or a newer version is needed`);
  return mariadb;
}

/** Why a commit may not survive a crash; null where it does. */
export async function findUndurable(connection: MysqlConnection, timeoutMs: number): Promise<string | null> {
  const [found] = await connection.query(
    ["SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog"],
    timeoutMs,
  );
  const [flush, binlog, sync] = found!.rows[0] as [number, number, number];
  if (flush !== 1) return `innodb_flush_log_at_trx_commit is ${flush}, set it to 1`;
  // With a binary log, a commit that reached only one of the two logs is undone, or lost for the replicas.
  if (binlog === 1 && sync !== 1) return `sync_binlog is ${sync}, set it to 1`;
  return null;
}

/** A start-up error as one line that says what to do; `flag` is the flag that names the database. */
export function startErrorOf(error: unknown, target: MysqlTarget, flag = "--mysql"): StartError {
  if (error instanceof StartError) return error;
  // The server's answer to the last of several attempts.
  if (error instanceof ConnectionLost && error.cause instanceof DatabaseError)
    return startErrorOf(error.cause, target, flag);
  const where = describe(target);
  const { user, database, tls } = target;
  if (error instanceof ConnectionLost) {
    if (error.code === "ENOTFOUND" || error.code === "EAI_AGAIN")
      return new StartError(`the database host ${target.host} is unknown: check ${flag}`);
    if (error.code === "HANDSHAKE_NO_SSL_SUPPORT")
      return new StartError(`${where} offers no TLS: set it up there, or give ${flag} without tls=yes`);
    if (error.code === "HANDSHAKE_SSL_ERROR")
      return new StartError(`TLS with ${where} fails (${error.message}): ${certificateRule(target.host)}`);
    return new StartError(
      `the database at ${where} does not answer (${error.message}): start it, or check host, port and firewall`,
    );
  }
  if (!(error instanceof DatabaseError)) return new StartError(`${where}: ${(error as Error).message}`);
  switch (error.errno) {
    case 1045: // ER_ACCESS_DENIED_ERROR
    case 1698:
      // The server says the same to an account that requires TLS.
      return new StartError(
        `${where} refuses user ${user}: check user and password of ${flag}${tls ? "" : ", and whether TLS is required (?tls=yes)"}`,
      );
    case 3159: // ER_SECURE_TRANSPORT_REQUIRED
      return new StartError(`${where} requires TLS: append ?tls=yes to ${flag}`);
    case 1044: // ER_DBACCESS_DENIED_ERROR
    case 1142: // ER_TABLEACCESS_DENIED_ERROR
    case 1227:
      return new StartError(`${where}: user ${user} lacks privileges: GRANT ALL ON \`${database}\`.* TO ${user}`);
    case 1049: // ER_BAD_DB_ERROR
      return new StartError(`${where}: there is no database ${database}: CREATE DATABASE \`${database}\``);
    case 1040: // ER_CON_COUNT_ERROR
    case 1203:
    case 1226: // ER_USER_LIMIT_REACHED
      return new StartError(
        `${where} has no free connection: raise its max_connections, or the account's MAX_USER_CONNECTIONS`,
      );
    case 1665: // ER_BINLOG_STMT_MODE_AND_ROW_ENGINE
      return new StartError(`${where} writes its binary log by statements: set binlog_format = ROW`);
    default:
      return new StartError(`${where}: ${error.message}`);
  }
}
