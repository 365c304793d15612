// Cursors of sessions that have ended: what cannot be saved now is saved later, because nothing else knows of it any more.
import { expect, test } from "bun:test";
import type { Store } from "../../src/model/store.ts";
import type { Connection } from "../../src/net/connection.ts";
import { Cursors } from "../../src/service/cursors.ts";
import type { Log } from "../../src/service/log.ts";
import { Session } from "../../src/service/session.ts";

/** A session that has ended with a position to be saved. */
function ended(): Session {
  const session = new Session({} as Connection, 1, "ann", "", false, 1);
  [session.deviceId, session.epoch] = [5, 2];
  const position = session.position(7, "u:1-2");
  position.start(3);
  position.markPushed(4);
  position.markDelivered(4);
  session.ended = true;
  return session;
}

const SAVED = [[5, 2, [[7, 4]], true]];

test.each(["away", "not to be written"])("a store that is %s: it is tried again", async (how) => {
  const asked: unknown[] = [];
  let isAway = true;
  const saveCursors = async (saves: unknown[]) => {
    if (isAway) throw new Error("the database is away");
    asked.push(saves);
    return [];
  };
  const log = { warn: () => undefined } as unknown as Log;
  const cursors = new Cursors({ saveCursors } as unknown as Store, () => [], log);
  cursors.stop();
  if (how !== "away") cursors.maySave = () => !isAway;
  await cursors.save([ended()]);
  await cursors.saveAll();
  expect(asked).toEqual([]);
  isAway = false;
  await cursors.saveAll();
  expect(asked).toEqual([SAVED]);
  await cursors.saveAll();
  expect(asked).toHaveLength(1);
});
