// What an error says of its transaction: undone, worth another try, or the fault of its data.
import { ConnectionLost, DatabaseError } from "./mysql-connection.ts";
import type { MysqlTx } from "./mysql-tx.ts";

const DUPLICATE = 1062;
/** Lock wait timeout, deadlock, record changed, lock nowait; and a key that another transaction has entered meanwhile. */
const PASSING = new Set([DUPLICATE, 1020, 1205, 1213, 3572]);
/** A packet over max_allowed_packet, and a text that the column's characters do not hold. */
const OF_DATA = new Set([1153, 1366]);

/** The same transaction can succeed when it is done again. */
export const isPassing = (error: unknown): boolean =>
  error instanceof ConnectionLost || (error instanceof DatabaseError && PASSING.has(error.errno));

/** One of the rows is at fault: without it the others can be stored. */
export const isOfData = (error: unknown): boolean =>
  error instanceof DatabaseError && (error.sqlState.startsWith("22") || OF_DATA.has(error.errno));

/** After the COMMIT had left: it is certain that nothing was committed. */
export const isUndone = (error: unknown): boolean =>
  error instanceof DatabaseError && (PASSING.has(error.errno) || isOfData(error));

/** Rolls back; a connection where that is not possible is of no use any more. */
export async function undo(tx: MysqlTx): Promise<void> {
  try {
    await tx.rollback();
  } catch {
    tx.options.connection.destroy("a transaction could not be rolled back");
  }
}
