// The store's thread with two operations more. Used by journal.test.ts.
import type { Pieces, Tx } from "../../src/db/db.ts";
import { serve } from "../../src/db/sqlite-worker.ts";
import type { Drafts } from "../../src/model/drafts.ts";
import { operations } from "../../src/model/store.ts";

export const more = {
  ...operations,
  /** How commits are synced. */
  synchronous: (tx: Tx) => tx.all<unknown>("PRAGMA synchronous"),
  /** Makes a user and appends, and then fails. */
  inVain: async (tx: Tx, name: string, drafts: Drafts, pieces: Pieces) => {
    await operations.createUser(tx, name, "hash");
    await operations.append(tx, drafts, pieces);
    throw new Error("in vain");
  },
};

if (!Bun.isMainThread) serve(more, new URL("../../src/checkpoint-worker.ts", import.meta.url));
