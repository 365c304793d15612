// Arguments and environment of ./ChatClient -> options. The only reader of argv and env there.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { bareHost } from "../flag-values.ts";
import { printAnswer } from "../print.ts";
import type { Address, TlsOptions } from "./link.ts";

declare const BUILD_VERSION: string;
declare const BUILD_COMMIT: string;

/** Version and commit, defined by the build. */
const VERSION = typeof BUILD_VERSION === "string" ? `${BUILD_VERSION} (${BUILD_COMMIT})` : "development";

const HELP = `ChatClient ${VERSION}

Usage:
  ChatClient [HOST [PORT]]   Connect to a chat server (default 127.0.0.1 6000)

Options:
  --tls            Connect with TLS
  --tls-ca FILE    Trust this certificate or authority (PEM) instead of the public ones; implies --tls
  --tls-name NAME  Name that the certificate must have, if not HOST; implies --tls
  -v, --version    Print the version
  -h, --help       Print this

On a terminal it asks you to log in; the command "help" lists all commands. Lines from a pipe are commands or JSON
requests, each sent when the previous one is answered. At the end of input it exits, with code 1 if one of them failed.
`;

/** Wrong arguments, as one line that says what is allowed. */
export class UsageError extends Error {}

export interface Options extends Address {
  /** Whether lines may be coloured if they go to a terminal (https://no-color.org). */
  colours: boolean;
}

/** Reads the options; null where help or the version was asked for and has been printed. Throws UsageError. */
export function readOptions(argv: string[], env: Record<string, string | undefined>): Options | null {
  const { values, positionals } = parse(argv);
  if (values.version) printAnswer("ChatClient", `ChatClient ${VERSION}\n`);
  else if (values.help) printAnswer("ChatClient", HELP);
  if (values.help || values.version) return null;
  const [host = "127.0.0.1", port = "6000", extra] = positionals;
  if (extra !== undefined) throw new UsageError(`unexpected "${extra}": give HOST PORT, see --help`);
  // A port alone, or HOST:PORT as in a URL.
  if (host === "" || /^([^:]*:|\[.*\]:)?\d+$/.test(host))
    throw new UsageError(`"${host}" is not a host: give HOST PORT, such as 127.0.0.1 6000`);
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535)
    throw new UsageError(`port: "${port}" is not a number from 1 to 65535`);
  return {
    host: bareHost(host),
    port: Number(port),
    tls: tlsOf(values),
    colours: !env.NO_COLOR && env.TERM !== "dumb",
  };
}

function tlsOf(values: ReturnType<typeof parse>["values"]): TlsOptions | undefined {
  const { tls, "tls-ca": file, "tls-name": name } = values;
  if (!tls && file === undefined && name === undefined) return undefined;
  return { ca: file === undefined ? undefined : readPem(file), name };
}

function readPem(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`--tls-ca: ${(error as Error).message}: give a PEM file`);
  }
  if (!text.includes("-----BEGIN CERTIFICATE-----"))
    throw new UsageError(`--tls-ca: ${file} holds no certificate (PEM)`);
  return text;
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        tls: { type: "boolean" },
        "tls-ca": { type: "string" },
        "tls-name": { type: "string" },
        help: { type: "boolean", short: "h" },
        version: { type: "boolean", short: "v" },
      },
    });
  } catch (error) {
    const [line] = (error as Error).message.split(/\. |\n/);
    throw new UsageError(`${line}: see --help`);
  }
}
