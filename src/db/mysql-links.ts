// Which connections to the database belong to which boot, so that whoever finds a boot dead can end them with the row locks that
// they hold. The database counts connections anew when it is restarted: a link is good for the run that it was made in.
import { type Connection, literal, type Result } from "./mysql-connection.ts";

const REGISTER_TIMEOUT_MS = 4_000;
/** The time and the uptime are of two statements, and whole seconds. */
const TOLERANCE_S = 2;

const RUN = ["SELECT UNIX_TIMESTAMP()", "SHOW STATUS LIKE 'Uptime'"];

/** The second in which this run of the database began, whatever its clock has done since; 0 where that cannot be told. */
function startOf([time, uptime]: Result[]): number {
  const started = Math.floor(Number(time!.rows[0]![0])) - Number(uptime!.rows[0]![1]);
  return Number.isSafeInteger(started) && started > 0 ? started : 0;
}

/** Enters a connection as the boot's. */
export async function registerLink(connection: Connection, boot: string): Promise<void> {
  const started = startOf(await connection.query(RUN, REGISTER_TIMEOUT_MS));
  const sql = `INSERT INTO link (conn_id, boot, started) VALUES (${connection.id}, ${literal(boot)}, ${started})`;
  const update = "ON DUPLICATE KEY UPDATE boot = VALUES(boot), started = VALUES(started)";
  await connection.query([`${sql} ${update}`], REGISTER_TIMEOUT_MS);
}

/** The numbers of the boot's connections in this run of the database, whether they are open or not. */
export async function readLinks(query: (statements: string[]) => Promise<Result[]>, boot: string): Promise<number[]> {
  const [links, ...run] = await query([`SELECT conn_id, started FROM link WHERE boot = ${literal(boot)}`, ...RUN]);
  const start = startOf(run);
  const isOfThisRun = (started: number) => start === 0 || started === 0 || Math.abs(started - start) <= TOLERANCE_S;
  return (links!.rows as [number, number][]).filter(([, started]) => isOfThisRun(started)).map(([id]) => id);
}
