// Memory is given back once the process, and the store's thread, are quiet.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { openSqliteStore } from "../../src/db/sqlite.ts";
import { CHEAP_PASSWORDS, startServer, temporaryFolder, until } from "../harness.ts";
import { COLLECTED, more } from "../store/journal-worker.ts";

test("the server gives memory back after its start", async () => {
  const server = await startServer(join(temporaryFolder(), "chat.db"), [...CHEAP_PASSWORDS, "--log-level", "debug"]);
  await until(
    () => / DEBUG quiet: memory was given back, [1-9]\d+ MiB are in use\n/.test(server.log()),
    "memory is given back",
  );
  await server.stop();
});

/** A store that counts how often its thread has given memory back. */
async function open() {
  const worker = new URL("../store/journal-worker.ts", import.meta.url);
  const counted = { times: 0 };
  const store = await openSqliteStore(join(temporaryFolder(), "chat.db"), more, worker, undefined, (what) => {
    expect(what).toBe(COLLECTED);
    counted.times++;
  });
  const ask = (requests: number) => Promise.all(Array.from({ length: requests }, () => store.credentials("id", 1)));
  return { store, counted, ask };
}

test("the store's thread does after many requests, not after few", async () => {
  const [few, many] = [await open(), await open()];
  await few.ask(999);
  await many.ask(1_000);
  await until(() => many.counted.times === 1, "memory is given back");
  expect(few.counted.times).toBe(0);
  await few.ask(1);
  await until(() => few.counted.times === 1, "the requests add up");
  await few.ask(999);
  await many.ask(1_000);
  await until(() => many.counted.times === 2, "memory is given back again");
  expect(few.counted.times).toBe(1);
  await Promise.all([few.store.close(), many.store.close()]);
});
