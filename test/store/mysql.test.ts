// The shared store, on a real MariaDB.
import { afterAll, beforeAll } from "bun:test";
import { openMysqlStore } from "../../src/db/mysql.ts";
import { parseMysqlUrl } from "../../src/db/mysql-url.ts";
import { writers } from "../../src/model/plan.ts";
import { operations } from "../../src/model/store.ts";
import { type RunningMariadb, startMariadb } from "../services.ts";
import { storeSuite } from "./store.suite.ts";

let mariadb: RunningMariadb;
beforeAll(async () => {
  mariadb = await startMariadb();
}, 30_000);
afterAll(() => mariadb.stop());

const log = { warn: () => undefined, info: () => undefined };

storeSuite("MariaDB", () =>
  openMysqlStore({ target: parseMysqlUrl(mariadb.url)!, address: "", log }, operations, writers),
);
