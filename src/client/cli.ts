// Arguments and environment of ./ChatClient -> options. Its only reader of argv and env.
import { parseArgs } from "node:util";

declare const BUILD_VERSION: string;
declare const BUILD_COMMIT: string;

/** Version and commit, given by the build. */
const VERSION = typeof BUILD_VERSION === "string" ? `${BUILD_VERSION} (${BUILD_COMMIT})` : "development";

const HELP = `ChatClient ${VERSION}

Usage:
  ChatClient [HOST [PORT]]   Connect to a chat server (default 127.0.0.1 6000)

Options:
  -v, --version  Print the version
  -h, --help     Print this

On a terminal it asks for the log-in; help lists its commands. Lines from a pipe are commands or JSON requests, each
sent when the one before it is answered; at the end of them it ends.
`;

/** Wrong arguments, in one line that says what is allowed. */
export class UsageError extends Error {}

export interface Options {
  host: string;
  port: number;
  /** Whether lines may be coloured where they go to a terminal (https://no-color.org). */
  colours: boolean;
}

/** The options; null where help or the version was asked for and is printed. Throws UsageError. */
export function readOptions(argv: string[], env: Record<string, string | undefined>): Options | null {
  const { values, positionals } = parse(argv);
  if (values.version) process.stdout.write(`ChatClient ${VERSION}\n`);
  else if (values.help) process.stdout.write(HELP);
  if (values.help || values.version) return null;
  const [host = "127.0.0.1", port = "6000", extra] = positionals;
  if (extra !== undefined) throw new UsageError(`unexpected "${extra}": give HOST PORT, see --help`);
  if (host === "" || /^\d+$/.test(host))
    throw new UsageError(`"${host}" is not a host: give HOST PORT, such as 127.0.0.1 6000`);
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535)
    throw new UsageError(`port: "${port}" is not a number from 1 to 65535`);
  return { host, port: Number(port), colours: !env.NO_COLOR && env.TERM !== "dumb" };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: { help: { type: "boolean", short: "h" }, version: { type: "boolean", short: "v" } },
    });
  } catch (error) {
    const [line] = (error as Error).message.split(/\. |\n/);
    throw new UsageError(`${line}: see --help`);
  }
}
