// The time of a message: when its own turn of the loop took it, whatever waited before it.
import { expect, test } from "bun:test";
import type { Store } from "../../src/model/store.ts";
import { type ChatRequest, Committer } from "../../src/service/committer.ts";
import type { Delivery } from "../../src/service/delivery.ts";
import type { Log } from "../../src/service/log.ts";
import { until } from "../harness.ts";

test("a message that comes when the store is back is not as old as those that have waited for it", async () => {
  const waiting: (() => void)[] = [];
  const append = () => new Promise((_, reject) => waiting.push(() => reject(new Error("away"))));
  const silent = { error: () => undefined } as unknown as Log;
  const committer = new Committer({ append } as unknown as Store, {} as Delivery, 60_000, silent);
  const connection = { answer: () => undefined };
  const add = () => {
    const at = committer.turnAt;
    const session = { userId: 1 };
    committer.add({
      connection,
      session,
      conv: "u:1-2",
      mid: null,
      text: "",
      msgId: 1004,
      at,
    } as unknown as ChatRequest);
    return at;
  };
  // Until no more batches are in flight, and one waits.
  for (let sent = 0; sent === waiting.length; sent++) {
    add();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const before = add();
  expect(add()).toBeGreaterThanOrEqual(before);
  await until(() => performance.now() > before + 50, "time has passed");
  const back = performance.now();
  waiting[0]!();
  await Promise.resolve().then(() => Promise.resolve());
  await Promise.resolve();
  expect(committer.turnAt).toBeGreaterThanOrEqual(back);
  committer.stop();
});
