// Composition root of the embedded store's thread.
import { serve } from "./db/sqlite-worker.ts";
import { operations } from "./model/store.ts";

serve(operations, new URL("./checkpoint-worker.ts", import.meta.url));
