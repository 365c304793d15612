// A device that several log-ins want within a second: where one has stopped, the next goes on, through those between; and
// what a log-in or an end has left half-done in the store is seen to.
import { expect, test } from "bun:test";
import type { Shared } from "../../src/db/db.ts";
import type { OpenedDevice } from "../../src/model/owner.ts";
import type { Store } from "../../src/model/store.ts";
import type { Connection } from "../../src/net/connection.ts";
import { type ChatError, Errno } from "../../src/protocol.ts";
import { Cluster } from "../../src/service/cluster.ts";
import type { Log } from "../../src/service/log.ts";
import type { OtherInstances } from "../../src/service/other-instances.ts";
import type { Session } from "../../src/service/session.ts";
import { Sessions } from "../../src/service/sessions.ts";
import { until } from "../harness.ts";

const log = { warn: () => undefined } as unknown as Log;
const request = { userId: 1, name: "ann", device: "", takeover: true, confirms: false, order: 1 };
const connection = () =>
  ({
    state: "open",
    anonymousSince: null,
    whenFlushed: () => Promise.resolve(true),
    retire: () => undefined,
  }) as unknown as Connection;

type Signal = PromiseWithResolvers<void>;

/** An instance whose store commits log-ins as `opened`, and which has to hear of the device's session at another one. */
function instance(opened: Promise<OpenedDevice>) {
  const [begun, asked, saved] = [0, 1, 2].map(() => Promise.withResolvers<void>()) as [Signal, Signal, Signal];
  const store = {
    openDevice: () => {
      begun.resolve();
      return opened;
    },
    missingOf: async () => ({ behind: [], rows: 0, offline: 0 }),
    saveCursors: async () => [],
    listedBy: async () => [],
  } as unknown as Store;
  const sessions = new Sessions(store, () => "here", log);
  sessions.cursors.stop();
  const claim = (_: Session, from: string) => {
    if (from !== "") asked.resolve();
    return saved.promise;
  };
  const nothing = async () => undefined;
  sessions.join({
    claim,
    release: nothing,
    announce: nothing,
    online: async () => new Set(),
  } as unknown as OtherInstances);
  const refused = sessions.logIn(connection(), request).then(
    () => null,
    (error) => error as ChatError,
  );
  return { sessions, begun: begun.promise, asked: asked.promise, saved, refused };
}

const FROM_ANOTHER = { id: 1, epoch: 2, from: "another" };

for (const [when, isCommitted] of [
  ["is committed", true],
  ["is being committed", false],
] as const)
  test(`a log-in that is outdone when it ${when}: the next owner goes on where the owner before it has stopped`, async () => {
    const opened = Promise.withResolvers<OpenedDevice>();
    const { sessions, begun, asked, saved, refused } = instance(opened.promise);
    await begun;
    if (isCommitted) opened.resolve(FROM_ANOTHER);
    if (isCommitted) await asked;
    let hasYielded = false;
    const yielded = sessions.yield(1, "", 3).then(() => {
      hasYielded = true;
    });
    opened.resolve(FROM_ANOTHER);
    await asked;
    await Bun.sleep(0);
    expect(hasYielded).toBe(false);
    saved.resolve();
    await yielded;
    expect((await refused)?.errno).toBe(Errno.replaced);
  });

test("a device that nobody holds any more is given back, also where a log-in under way held it at the first look", async () => {
  let isHeld = true;
  const closed: unknown[] = [];
  const store = {
    boot: "here",
    onLost: () => undefined,
    onRegained: () => undefined,
    onDead: () => undefined,
    leaseValid: () => true,
    readCommits: async () => ({ heads: [], all: false }),
    readPresenceChanges: async () => [],
    replacedAmong: async () => [],
    devicesAt: async () => [{ id: 7, userId: 1, device: "", epoch: 1 }],
    closeDevices: async (devices: unknown[]) => {
      isHeld = false;
      closed.push(...devices);
    },
  } as unknown as Store & Shared;
  const sessions = Object.assign([], {
    join: () => undefined,
    delivery: {},
    cursors: {},
    presence: { review: () => undefined },
    epochOf: () => 0,
    holds: () => isHeld,
  }) as unknown as Sessions;
  const cluster = new Cluster(store, null, sessions, log);
  cluster.suspectStray();
  await until(() => closed.length > 0, "it is given back");
  expect(closed).toEqual([[7, 1]]);
  await cluster.close();
});
