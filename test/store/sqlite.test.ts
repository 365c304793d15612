// The embedded store, through its thread.
import { join } from "node:path";
import { openSqliteStore } from "../../src/db/sqlite.ts";
import { operations } from "../../src/model/store.ts";
import { temporaryFolder } from "../harness.ts";
import { storeSuite } from "./store.suite.ts";

const file = join(temporaryFolder(), "chat.db");
const thread = new URL("../../src/store-worker.ts", import.meta.url);

storeSuite("SQLite", () => openSqliteStore(file, operations, thread));
