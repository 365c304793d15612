// The store's thread with some operations more, on a disk that can be broken. Used by journal.test.ts and sync.test.ts.
import { fdatasyncSync } from "node:fs";
import type { Pieces, Tx } from "../../src/db/db.ts";
import { serve } from "../../src/db/sqlite-worker.ts";
import type { Drafts } from "../../src/model/drafts.ts";
import { operations } from "../../src/model/store.ts";

declare const self: Worker;

let syncs = 0;
/** So many syncs fail next. */
let failing = 0;

function syncFile(fd: number): void {
  if (failing > 0) {
    failing--;
    throw Object.assign(new Error("the disk is broken"), { code: "EIO" });
  }
  fdatasyncSync(fd);
  syncs++;
}

export const more = {
  ...operations,
  /** How often the log has been synced. */
  syncs: async () => syncs,
  failSyncs: async (_: Tx, count: number) => {
    failing = count;
  },
  waitForLocks: (tx: Tx, ms: number) => tx.all<unknown>(`PRAGMA busy_timeout = ${ms}`),
  /** Makes a user and appends, and then fails. */
  inVain: async (tx: Tx, name: string, drafts: Drafts, pieces: Pieces) => {
    await operations.createUser(tx, name, "hash");
    await operations.append(tx, drafts, pieces);
    throw new Error("in vain");
  },
};

/** What onTrouble is called with when this thread gives memory back. */
export const COLLECTED = "memory was collected";

if (!Bun.isMainThread) {
  Bun.gc = () => self.postMessage({ trouble: COLLECTED });
  serve(more, new URL("../../src/checkpoint-worker.ts", import.meta.url), syncFile);
}
