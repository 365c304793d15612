// Redis addresses as an administrator writes them: redis://, rediss://, redis+sentinel://, redis+cluster://.
import { bareHost, formatAddress } from "../flag-values.ts";

interface Address {
  host: string;
  port: number;
}

interface Login {
  username?: string;
  password?: string;
  tls: boolean;
}

/** A single server, the Sentinels that know the current master, or some nodes of a cluster. */
export type RedisTarget =
  | (Login & { kind: "single"; address: Address; db: number })
  | (Login & { kind: "sentinel"; addresses: Address[]; master: string; db: number })
  | (Login & { kind: "cluster"; addresses: Address[] });

const SCHEMES = /^(redis|rediss|redis\+sentinel|redis\+cluster):\/\//;
/** The forms that `parseRedisUrls` accepts. */
export const REDIS_FORMS =
  "redis://[user:password@]host:port[/db], rediss://… (TLS), redis+sentinel://host:port,…/master[/db] or redis+cluster://host:port,…";

/**
 * Parses one address, or several separated by commas, of which all but the first may omit scheme and login. Undefined
 * where `text` has none of REDIS_FORMS.
 */
export function parseRedisUrls(text: string): RedisTarget | undefined {
  const parts = text.split(",").filter((part) => part !== "");
  const scheme = SCHEMES.exec(parts[0] ?? "")?.[1];
  if (scheme === undefined) return undefined;
  const parsed: URL[] = [];
  for (const part of parts) {
    const url = URL.parse(SCHEMES.test(part) ? part : `${scheme}://${part}`);
    if (url === null || url.hostname === "" || url.protocol !== `${scheme}:`) return undefined;
    parsed.push(url);
  }
  const addresses = parsed.map(({ hostname, port }) => ({
    host: bareHost(hostname),
    port: Number(port) || (scheme === "redis+sentinel" ? 26_379 : 6379),
  }));
  const [first] = parsed as [URL];
  const login: Login = { tls: scheme === "rediss" };
  try {
    if (first.username !== "") login.username = decodeURIComponent(first.username);
    if (first.password !== "") login.password = decodeURIComponent(first.password);
  } catch {
    // A literal "%" must be written "%25".
    return undefined;
  }
  // The path follows the last address.
  const path = parsed.map(({ pathname }) => pathname.replace(/^\/|\/$/g, "")).find((each) => each !== "") ?? "";
  if (scheme === "redis+cluster") {
    if (path !== "") return undefined;
    return { ...login, kind: "cluster", addresses };
  }
  if (scheme === "redis+sentinel") {
    const match = /^([\w.-]+)(?:\/(\d{1,3}))?$/.exec(path);
    if (match === null) return undefined;
    return { ...login, kind: "sentinel", addresses, master: match[1]!, db: Number(match[2] ?? 0) };
  }
  if (addresses.length > 1 || !/^\d{0,3}$/.test(path)) return undefined;
  return { ...login, kind: "single", address: addresses[0]!, db: Number(path) };
}

/** For logs: without user and password. */
export function describeTarget(target: RedisTarget): string {
  const addresses = target.kind === "single" ? [target.address] : target.addresses;
  const hosts = addresses.map(({ host, port }) => formatAddress(host, port)).join(", ");
  const database = target.kind === "cluster" || target.db === 0 ? "" : `/${target.db}`;
  return `${target.kind === "single" ? "" : `${target.kind} `}${hosts}${database}`;
}
