// The embedded store read directly: a copy of what a killed server has left.
import { Database } from "bun:sqlite";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "../harness.ts";
import { copyStore, type Place } from "./embedded-place.ts";
import type { Ledger } from "./ledger.ts";
import { compareStore, type StoredRow } from "./store-check.ts";

/** The log as people read it, by the view that is made for them. */
const READ_LOG = `CREATE TABLE log AS
  SELECT CASE c.kind WHEN 0 THEN 'u:' || c.lo || '-' || c.hi ELSE 'g:' || c.lo END AS conv, m.seq AS seq, m.mid AS mid, m.body AS body
  FROM message m JOIN conversation c ON c.id = m.conversation`;
const PAGE_ROWS = 1_000;

export interface StoreCheck {
  rows: number;
  /** Of them in the journal alone. */
  journalled: number;
  bytes: number;
  /** Of PRAGMA integrity_check. */
  verdict: string;
}

/** Compares everything that `place` holds with the ledger; no server may run there. */
export async function checkStore(place: Place, ledger: Ledger): Promise<StoreCheck> {
  const folder = temporaryFolder();
  const file = join(folder, "chat.db");
  await copyStore(place, file);
  const bytes = Bun.file(file).size;
  const db = new Database(file);
  try {
    const { integrity_check: verdict } = db.query("PRAGMA integrity_check").get() as { integrity_check: string };
    db.run("PRAGMA synchronous = OFF");
    db.run(READ_LOG);
    db.run("CREATE INDEX log_place ON log (conv, seq)");
    const page = db.query<StoredRow, [string, number]>(
      `SELECT conv, seq, mid, body FROM log WHERE conv = ? AND seq > ? ORDER BY seq LIMIT ${PAGE_ROWS}`,
    );
    const { rows } = await compareStore(ledger, async (conv, above) => page.all(conv, above));
    const { folded } = db.query("SELECT ifnull(sum(last_seq), 0) AS folded FROM conversation").get() as {
      folded: number;
    };
    return { rows, journalled: rows - folded, bytes, verdict };
  } finally {
    db.close();
    rmSync(folder, { recursive: true });
  }
}
