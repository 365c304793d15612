// Where there are other instances: whose output may be given up for the sake of the device's next log-in, and whose not.
import { expect, test } from "bun:test";
import type { Store } from "../../src/model/store.ts";
import type { Connection } from "../../src/net/connection.ts";
import type { Log } from "../../src/service/log.ts";
import type { OtherInstances } from "../../src/service/other-instances.ts";
import type { Session } from "../../src/service/session.ts";
import { Sessions } from "../../src/service/sessions.ts";
import { until } from "../harness.ts";

/** A session whose client takes nothing of its output. */
async function stuck(): Promise<{ sessions: Sessions; session: Session; given: () => number }> {
  let given = 0;
  const connection = {
    state: "open",
    anonymousSince: null,
    whenFlushed: () => new Promise(() => undefined),
    giveUp: () => given++,
  } as unknown as Connection;
  const store = {
    openDevice: async () => ({ id: 1, epoch: 1, from: "" }),
    missingOf: async () => ({ behind: [], rows: 0, offline: 0 }),
    saveCursors: async () => [],
    listedBy: async () => [],
  } as unknown as Store;
  const sessions = new Sessions(store, () => "boot", { warn: () => undefined } as unknown as Log);
  sessions.cursors.stop();
  sessions.join({ claim: async () => undefined, online: async () => new Set() } as unknown as OtherInstances);
  const request = { userId: 1, name: "ann", device: "", takeover: false, confirms: false, order: 1 };
  const session = await sessions.logIn(connection, request);
  return { sessions, session, given: () => given };
}

/** Does `work`, and at once what it puts off for some seconds. */
function inAMoment(work: () => void): void {
  const { setTimeout: wait } = globalThis;
  globalThis.setTimeout = ((late: () => void, ms?: number) => wait(late, ms === 5_000 ? 1 : ms)) as typeof setTimeout;
  try {
    work();
  } finally {
    globalThis.setTimeout = wait;
  }
}

test("the output of who has logged out is given up", async () => {
  const { sessions, session, given } = await stuck();
  inAMoment(() => void sessions.logOut(session));
  await until(() => given() === 1, "it is given up");
});

test("the output of a connection that ends in good order, as after a FIN, is not", async () => {
  const { sessions, session, given } = await stuck();
  const later = await stuck();
  inAMoment(() => void sessions.end(session));
  // Behind what the other one has put off.
  inAMoment(() => void later.sessions.logOut(later.session));
  await until(() => later.given() === 1, "the other one's is given up");
  expect(given()).toBe(0);
});
