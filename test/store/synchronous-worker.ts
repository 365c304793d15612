// The store's thread with one operation more: how commits are synced. Used by journal.test.ts.
import type { Tx } from "../../src/db/db.ts";
import { serve } from "../../src/db/sqlite-worker.ts";
import { operations } from "../../src/model/store.ts";

export const withSynchronous = { ...operations, synchronous: (tx: Tx) => tx.all<unknown>("PRAGMA synchronous") };

if (!Bun.isMainThread) serve(withSynchronous, new URL("../../src/checkpoint-worker.ts", import.meta.url));
