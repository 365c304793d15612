// Which database connections belong to which boot, so that whoever finds a boot dead can end them, and with them the
// row locks they hold. Connection ids start over when the database restarts: a link counts for the run it was made in.
import { literal, type MysqlConnection, type Result } from "./mysql-connection.ts";

const REGISTER_TIMEOUT_MS = 4_000;
/** Time and uptime come from two statements, in whole seconds. */
const TOLERANCE_S = 2;

const RUN = ["SELECT UNIX_TIMESTAMP()", "SHOW STATUS LIKE 'Uptime'"];

/** A connection's own id, and a name for what it sees in SHOW PROCESSLIST: one account's connections at one server. */
const VIEW = "SELECT CONNECTION_ID(), CONCAT_WS(' ', CURRENT_USER(), @@hostname, @@port)";

/** A boot's connection in this run of the database, whether still open or not. */
export interface Link {
  id: number;
  /** The view in which it shows while it is open; "": unknown. */
  seenBy: string;
}

/** The second in which this run of the database began, however its clock was set since; 0 where unknown. */
function startOf([time, uptime]: Result[]): number {
  const started = Math.floor(Number(time!.rows[0]![0])) - Number(uptime!.rows[0]![1]);
  return Number.isSafeInteger(started) && started > 0 ? started : 0;
}

/** Registers a connection as the boot's. A proxy that numbers connections itself shows it under another id: no view. */
export async function registerLink(connection: MysqlConnection, boot: string): Promise<void> {
  const [view, ...run] = await connection.query([VIEW, ...RUN], REGISTER_TIMEOUT_MS);
  const [id, seenBy] = view!.rows[0] as [number, string];
  const values = [connection.id, boot, startOf(run), id === connection.id ? seenBy : ""].map(literal);
  const update = "ON DUPLICATE KEY UPDATE boot = VALUES(boot), started = VALUES(started), seen_by = VALUES(seen_by)";
  const sql = `INSERT INTO link (conn_id, boot, started, seen_by) VALUES (${values.join(", ")}) ${update}`;
  await connection.query([sql], REGISTER_TIMEOUT_MS);
}

/** The boot's connections, and the reader's own view. */
export async function readLinks(
  query: (statements: string[]) => Promise<Result[]>,
  boot: string,
): Promise<{ links: Link[]; view: string }> {
  const [found, view, ...run] = await query([
    `SELECT conn_id, seen_by, started FROM link WHERE boot = ${literal(boot)}`,
    VIEW,
    ...RUN,
  ]);
  const start = startOf(run);
  const isOfThisRun = (started: number) => start === 0 || started === 0 || Math.abs(started - start) <= TOLERANCE_S;
  const links = (found!.rows as [number, string, number][])
    .filter(([, , started]) => isOfThisRun(started))
    .map(([id, seenBy]) => ({ id, seenBy }));
  return { links, view: view!.rows[0]![1] as string };
}
