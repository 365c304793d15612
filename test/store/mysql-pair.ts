// Two instances on one MariaDB, of which one can lose contact: anew for each test, for the tests beside this file.
import { afterAll, afterEach, beforeAll, beforeEach } from "bun:test";
import { type Forwarder, startForwarder } from "../forwarder.ts";
import { until } from "../harness.ts";
import { type RunningMariadb, startMariadb, transactions } from "../services.ts";
import { openShared, type SharedStore, through } from "./mysql-shared.ts";

export let mariadb: RunningMariadb;
export let forwarder: Forwarder;
/** `a` reaches the database through the forwarder. */
export let a: SharedStore;
export let b: SharedStore;
/** The boots that `b` has been told are gone. */
export let dead: string[];
/** How often `a` has been told that its boot was taken over. */
export let lost: number;
let names = 0;

/** Sets all of the above for the tests of the file that calls it, and cleans up after them. */
export function pairForEachTest(): void {
  beforeAll(async () => {
    mariadb = await startMariadb();
    forwarder = await startForwarder(mariadb.port);
  }, 30_000);
  afterAll(async () => {
    forwarder.stop();
    await mariadb.stop();
  });
  beforeEach(async () => {
    [a, b] = await Promise.all([
      openShared(through(mariadb.url, forwarder.port), { storeTimeoutMs: 2_000 }),
      openShared(mariadb.url),
    ]);
    dead = [];
    lost = 0;
    b.onDead((boots) => dead.push(...boots));
    a.onLost(() => lost++);
  });
  afterEach(async () => {
    forwarder.watch(() => "pass");
    forwarder.heal();
    await Promise.all([a.close(), b.close()]);
  });
}

export const user = () => b.createUser(`lease-${++names}`, "hash");
/** The seqs of the messages with this text. */
export const rowsOf = async (text: string) =>
  (await mariadb.admin(`SELECT seq FROM chat.message WHERE body = '${text}'`)).map(({ seq }) => seq);
/** Waits until the database has run for as long as a survivor wants it to have, before it takes anybody over. */
export const settled = () =>
  until(
    async () => Number((await mariadb.admin("SHOW STATUS LIKE 'Uptime'"))[0]!.Value) >= 8,
    "the database runs long enough",
    15_000,
  );

/** Waits until a transaction has changed something and not ended. */
export const locksHeld = () =>
  until(async () => (await transactions(mariadb, "trx_rows_modified > 0")).length > 0, "the locks are held");
