// The commands beside the server, `ChatServer copy` and `ChatServer import`: their flags, and what they run.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { defaultDatabase, FLAGS, UsageError } from "../cli.ts";
import type { MysqlTarget } from "../db/mysql-connection.ts";
import { withPassword } from "../db/mysql-start.ts";
import { printAnswer } from "../print.ts";
import { copyStore } from "./copy.ts";
import { type ImportOptions, importTo, importToFile } from "./import.ts";
import { requireEmpty } from "./target.ts";

const URL_FORM = "mysql://user:password@host:port/database";
const PASSWORD_FILE = "file with its password, hidden from process listings";

type Command = "copy" | "import";

const HELP: Record<Command, string> = {
  copy: `Usage: ChatServer copy --from FILE --to ${URL_FORM}

Copies an embedded database into an empty MySQL or MariaDB database: users, friends, groups, messages, each device's
delivery positions, and the secret that tokens are signed with. Then everything is compared. Stop the server first; FILE is
not changed. To resume an interrupted copy, run the same command again.

  --from <FILE>              the embedded database: the server's --data file
  --to <URL>                 the empty database
  --to-password-file <FILE>  ${PASSWORD_FILE}
`,
  import: `Usage: ChatServer import --from ${URL_FORM} [--to URL | --data FILE]

Takes over a C++ chat server's database (tables user, friend, allgroup, groupuser, offlinemessage): ids stay, passwords are
hashed, offline messages are delivered at the next login. Stop that server first; its database is only read.

  --from <URL>                 the C++ server's database
  --from-password-file <FILE>  ${PASSWORD_FILE}
  --from-charset <NAME>        character set under which UTF-8 texts were stored, such as gbk (SET NAMES gbk) or latin1
  --to <URL>                   an empty MySQL or MariaDB database for the result
  --to-password-file <FILE>    ${PASSWORD_FILE}
  --data <FILE>                a new embedded database instead (default ${FLAGS.data.otherwise})
  --new-passwords <FILE>       file for new passwords of users whose old ones are not 6 to 128 bytes long
  --password-memory <N>        ${FLAGS.passwordMemory.help} (default ${FLAGS.passwordMemory.otherwise})
  --password-time <N>          ${FLAGS.passwordTime.help} (default ${FLAGS.passwordTime.otherwise})
`,
};

/** Runs a command to its end. Throws UsageError and StartError. */
export async function runCommand(
  command: Command,
  argv: string[],
  env: Record<string, string | undefined>,
): Promise<void> {
  const given = readFlags(command, argv);
  if (given === null) printAnswer("ChatServer", HELP[command]);
  else {
    // The reader of the output may stop reading: the work goes on.
    process.stdout.on("error", () => undefined);
    // Files of the databases must not be readable by other users.
    process.umask(0o077);
    await (command === "copy" ? runCopy(given) : runImport(given, env));
  }
}

type Given = Partial<Record<string, string>>;

async function runCopy(given: Given): Promise<void> {
  const file = given.from;
  if (file === undefined) throw new UsageError("--from: give the embedded database, that is the server's --data file");
  await copyStore(resolve(file), readUrl("to", given));
}

async function runImport(given: Given, env: Record<string, string | undefined>): Promise<void> {
  if (given.to !== undefined && given.data !== undefined)
    throw new UsageError("--data: cannot be combined with --to, which replaces the embedded database");
  const charset = given["from-charset"] ?? null;
  if (charset !== null && !/^\w+$/.test(charset))
    throw new UsageError("--from-charset: the given value is not a character set, such as gbk");
  const options: ImportOptions = {
    charset,
    newPasswords: given["new-passwords"] === undefined ? null : resolve(given["new-passwords"]),
    memoryKiB: 1024 * number("password-memory", FLAGS.passwordMemory, given),
    passes: number("password-time", FLAGS.passwordTime, given),
  };
  const from = readUrl("from", given);
  if (given.to === undefined) return importToFile(from, resolve(given.data ?? defaultDatabase(env)), options);
  await importToMysql(from, readUrl("to", given), options);
}

/** Imports into a temporary file, then copies that. */
async function importToMysql(from: MysqlTarget, to: MysqlTarget, options: ImportOptions): Promise<void> {
  await requireEmpty(to);
  const folder = mkdtempSync(join(tmpdir(), "chatserver-import-"));
  const clear = () => rmSync(folder, { recursive: true, force: true });
  for (const signal of ["SIGINT", "SIGTERM"])
    process.on(signal, () => {
      clear();
      process.exit(1);
    });
  try {
    const file = join(folder, "chat.db");
    await importTo(file, from, options);
    await copyStore(file, to);
  } finally {
    clear();
  }
}

/** The flags of a command, each given at most once; null where help was asked for. */
function readFlags(command: Command, argv: string[]): Given | null {
  const names = [...HELP[command].matchAll(/^ {2}--([a-z-]+) </gm)].map(([, name]) => name!);
  const texts = names.map((name) => [name, { type: "string" as const, multiple: true }] as const);
  const options = { ...Object.fromEntries(texts), help: { type: "boolean" as const, short: "h" } };
  const see = `see ChatServer ${command} --help`;
  let values: Record<string, unknown>;
  try {
    ({ values } = parseArgs({ args: argv, options }));
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    // Without the value, which may be an address with a password.
    if (code === "ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL")
      throw new UsageError(`every value of ${command} belongs to a flag: ${see}`);
    throw new UsageError(`${message.split("\n", 1)[0]!.replace(/\.$/, "")}: ${see}`);
  }
  if (values.help === true) return null;
  const given: Given = {};
  for (const [name, list] of Object.entries(values) as [string, string[]][]) {
    if (list.length > 1) throw new UsageError(`--${name}: given more than once`);
    if (list[0] === "") throw new UsageError(`--${name}: the given value is empty`);
    given[name] = list[0]!;
  }
  return given;
}

function readUrl(name: "from" | "to", given: Given): MysqlTarget {
  const url = given[name];
  if (url === undefined) throw new UsageError(`--${name}: give ${URL_FORM}`);
  const { allowed, parse } = FLAGS.mysql;
  // Refuses both a malformed address and "none".
  const target = parse(url) ?? null;
  if (target === null) throw new UsageError(`--${name}: the given value is not ${allowed}`);
  return withPassword(target, given[`${name}-password-file`]);
}

function number(name: string, { allowed, otherwise, parse }: typeof FLAGS.passwordTime, given: Given): number {
  const value = parse(given[name] ?? otherwise);
  if (value === undefined) throw new UsageError(`--${name}: ${JSON.stringify(given[name])} is not ${allowed}`);
  return value;
}
