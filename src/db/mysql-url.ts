// The address of a database, as an administrator writes it.
import { bareHost, parseYesNo } from "../flag-values.ts";
import type { MysqlTarget } from "./mysql-connection.ts";

/** The form that `parseMysqlUrl` accepts. */
export const MYSQL_FORM = "mysql://user:password@host:port/database[?tls=yes] (write a literal % as %25)";

/** Parses an address, with its password, if any; undefined where it does not have the form of MYSQL_FORM. */
export function parseMysqlUrl(text: string): MysqlTarget | undefined {
  const url = URL.parse(text);
  if (url === null || !["mysql:", "mariadb:"].includes(url.protocol) || url.hostname === "") return undefined;
  const [user, password, database] = [url.username, url.password, url.pathname.slice(1)].map(decode);
  if (user === undefined || password === undefined || !database || /[/`]/.test(database)) return undefined;
  const port = Number(url.port || 3306);
  // Unknown parameters are refused: one that is ignored might have asked for TLS.
  const [[parameter, word] = ["tls", "no"], ...more] = url.searchParams;
  const tls = parameter === "tls" ? parseYesNo(word) : undefined;
  if (port === 0 || tls === undefined || more.length > 0 || url.hash !== "") return undefined;
  return {
    host: bareHost(url.hostname),
    port,
    user: user || "root",
    password,
    database,
    tls,
  };
}

function decode(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}
