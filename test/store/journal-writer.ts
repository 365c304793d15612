// Appends numbered messages as fast as they are stored, and prints how many are acknowledged, until it is killed:
// bun test/store/journal-writer.ts <file> <first number>. Used by journal.test.ts.
import { openSqliteStore } from "../../src/db/sqlite.ts";
import { operations } from "../../src/model/store.ts";
import { batch } from "./numbered.ts";

const [file, first] = process.argv.slice(2) as [string, string];
const PEERS = 20;
const ROWS = 250;
const TOGETHER = 5;

const store = await openSqliteStore(file, operations, new URL("../../src/store-worker.ts", import.meta.url));
if (Number(first) === 0) for (let i = 0; i <= PEERS; i++) await store.createUser(`user${i}`, "hash");

let acked = Number(first);
const append = (from: number) => store.append(...batch(from, ROWS, PEERS, TOGETHER));
for (let next = acked; ; next += 2 * ROWS) {
  for (const done of [append(next), append(next + ROWS)]) {
    await done;
    acked += ROWS;
    process.stdout.write(`${acked}\n`);
  }
}
