// Takes over from dead instances: expired ones are fenced and their connections ended, since a paused writer holds row
// locks.
import type { Boot } from "./mysql-boot.ts";
import { LEASE_S } from "./mysql-boot.ts";
import { DatabaseError, literal, type MysqlConnection, type Result } from "./mysql-connection.ts";
import { readLinks } from "./mysql-links.ts";

export interface Instance {
  boot: string;
  /** By the database's clock. */
  expires: string;
  expired: boolean;
}

/** The database may need this long to notice that a process has ended. */
const NOTICE_MS = 100;
/** A process found without connections twice, this far apart, has ended: a living one would have made a new one. */
const LOOK_AGAIN_MS = 250;
/** After a restart of the database the others have this long to come back. */
const SETTLING_S = LEASE_S + 2;
/** A change committed now may have been written this long ago, having waited for a lock. */
const CHANGED_S = 12;
const NO_SUCH_THREAD = 1094;

/** All instances entered in the database, expired ones too. */
export async function readInstances(own: Boot, deadline: number): Promise<Instance[]> {
  const sql = "SELECT boot, CAST(expires AS CHAR), expires <= UTC_TIMESTAMP(6) FROM instance";
  const [found] = await own.query([sql], deadline);
  return found!.rows.map(([boot, expires, expired]) => ({
    boot: boot as string,
    expires: expires as string,
    expired: expired === 1,
  }));
}

/**
 * Fences a boot, removes it and ends its connections: if its lease has expired, or with `force` in any case. False if
 * another instance was faster, or the lease has been renewed.
 */
export function fence({ pool }: Boot, boot: string, force: boolean, deadline: number): Promise<boolean> {
  const name = literal(boot);
  const expired = force ? "" : " AND expires <= UTC_TIMESTAMP(6)";
  return pool.use(deadline, async (connection) => {
    const query = (...statements: string[]) => connection.query(statements, deadline - performance.now());
    try {
      const [, won] = await query(
        "START TRANSACTION",
        `SELECT boot FROM instance WHERE boot = ${name}${expired} FOR UPDATE`,
      );
      if (won!.rows.length === 0) {
        await query("ROLLBACK");
        return false;
      }
      const { links } = await readLinks((statements) => query(...statements), boot);
      const open = openOf((await query("SHOW PROCESSLIST"))[0]!);
      for (const { id } of links) if (open.has(id)) await kill(connection, id, deadline);
      await query(
        `UPDATE lane SET fenced = 1 WHERE boot = ${name}`,
        `DELETE FROM link WHERE boot = ${name}`,
        `DELETE FROM instance WHERE boot = ${name}`,
        "COMMIT",
      );
      return true;
    } catch (error) {
      // Ends the transaction too.
      connection.destroy();
      throw error;
    }
  });
}

/** Users who have logged in or out anywhere since `since`: the `at` of the previous call, or "". */
export async function readPresenceChanges(
  own: Boot,
  since: string,
  deadline: number,
): Promise<{ users: number[]; at: string }> {
  const from = since === "" ? "NOW(6)" : `LEAST(NOW(6), ${literal(since)})`;
  const [now, found] = await own.query(
    [
      "SELECT CAST(NOW(6) AS CHAR)",
      `SELECT DISTINCT user_id FROM device WHERE changed >= ${from} - INTERVAL ${CHANGED_S} SECOND`,
    ],
    deadline,
  );
  return { users: found!.rows.map(([userId]) => userId as number), at: now!.rows[0]![0] as string };
}

/** Whether the database has run long enough for all living instances to have returned to it. */
export async function isSettled(own: Boot, deadline: number): Promise<boolean> {
  const [found] = await own.query(["SHOW STATUS LIKE 'Uptime'"], deadline);
  return Number(found!.rows[0]![1]) >= SETTLING_S;
}

/** Whether the boot's process certainly has no connection to the database any more: it has ended. */
export async function isGone(own: Boot, boot: string, deadline: number): Promise<boolean> {
  if (!(await isSettled(own, deadline))) return false;
  if (await mayBeConnected(own, boot, deadline)) {
    await Bun.sleep(NOTICE_MS);
    if (await mayBeConnected(own, boot, deadline)) return false;
  }
  await Bun.sleep(LOOK_AGAIN_MS);
  return !(await mayBeConnected(own, boot, deadline));
}

/** An account sees its own connections without further privileges; those in another view may be open. */
async function mayBeConnected(own: Boot, boot: string, deadline: number): Promise<boolean> {
  let open = new Set<unknown>();
  const { links, view } = await readLinks(async (statements) => {
    const results = await own.query([...statements, "SHOW PROCESSLIST"], deadline);
    open = openOf(results.pop()!);
    return results;
  }, boot);
  return links.some(({ id, seenBy }) => open.has(id) || seenBy !== view);
}

/** The connection ids in the result of SHOW PROCESSLIST. */
const openOf = ({ rows }: Result): Set<unknown> => new Set(rows.map(([id]) => id));

/** Removes the registrations of this boot's own connections that the database has ended. */
export async function cleanLinks(own: Boot, deadline: number): Promise<void> {
  const lost = [...own.linked].filter((connection) => connection.lost !== null);
  if (lost.length === 0) return;
  const open = openOf((await own.query(["SHOW PROCESSLIST"], deadline))[0]!);
  const gone = lost.filter(({ id }) => !open.has(id));
  if (gone.length === 0) return;
  const ids = gone.map(({ id }) => id).join(", ");
  await own.query([`DELETE FROM link WHERE boot = ${literal(own.name)} AND conn_id IN (${ids})`], deadline);
  for (const connection of gone) own.linked.delete(connection);
}

async function kill(connection: MysqlConnection, id: number, deadline: number): Promise<void> {
  try {
    await connection.query([`KILL ${id}`], deadline - performance.now());
  } catch (error) {
    if (!(error instanceof DatabaseError && error.errno === NO_SUCH_THREAD)) throw error;
  }
}
