// What an error says about its transaction: undone, worth another try, or the fault of its data.
import { StoreError } from "./db.ts";
import { ConnectionLost, DatabaseError } from "./mysql-connection.ts";
import type { MysqlTx } from "./mysql-tx.ts";

/** Something this instance had cached is no longer true; it has been forgotten now. */
export class Stale extends StoreError {}

/** A key that another transaction has inserted meanwhile. */
const DUPLICATE = 1062;
/** Record changed, lock wait timeout, deadlock. */
const LOCK_ERRORS = new Set([1020, 1205, 1213]);
const MAX_PAUSE_MS = 50;
/** A packet over max_allowed_packet; a text that the column's character set cannot hold. */
const DATA_ERRORS = new Set([1153, 1366]);

/** The same transaction may succeed when repeated. */
export const isTransient = (error: unknown): boolean =>
  error instanceof ConnectionLost || error instanceof Stale || isOneOf(error, LOCK_ERRORS) || isDuplicate(error);

/** The pause before another try: transactions that collided over locks must not collide again. */
export const pauseMs = (error: unknown): number => (isOneOf(error, LOCK_ERRORS) ? Math.random() * MAX_PAUSE_MS : 0);

/** One of the rows is at fault: without it the others can be stored. */
export const isDataError = (error: unknown): boolean =>
  error instanceof DatabaseError && (error.sqlState.startsWith("22") || DATA_ERRORS.has(error.errno));

/** After COMMIT was sent: it is certain that nothing was committed. */
export const isUndone = (error: unknown): boolean =>
  isOneOf(error, LOCK_ERRORS) || isDuplicate(error) || isDataError(error);

const isDuplicate = (error: unknown): boolean => error instanceof DatabaseError && error.errno === DUPLICATE;

const isOneOf = (error: unknown, errnos: Set<number>): boolean =>
  error instanceof DatabaseError && errnos.has(error.errno);

/** Rolls back; if that fails, the connection is given up. */
export async function undo(tx: MysqlTx): Promise<void> {
  try {
    await tx.rollback();
  } catch {
    tx.options.connection.destroy("a transaction could not be rolled back");
  }
}
