import { expect, test } from "bun:test";
import type { LogRow } from "../../src/db/db.ts";
import type { Backlog, Want } from "../../src/model/device.ts";
import type { Store } from "../../src/model/store.ts";
import type { Connection } from "../../src/net/connection.ts";
import { MsgId } from "../../src/protocol.ts";
import { LocalRouter } from "../../src/router/local.ts";
import { Delivery } from "../../src/service/delivery.ts";
import type { Log } from "../../src/service/log.ts";
import { Session } from "../../src/service/session.ts";
import { until } from "../harness.ts";

const READERS = 100;
const CROWD = 50_000;
const PAGES = 40;
const PAGE_ROWS = 16;

/** A store whose users lack `PAGES` pages each, one user's being conversation and id at once; `pages` were read of it. */
class Stored {
  pages = 0;

  async backlog(_device: [number, number], wants: Want[]): Promise<Backlog> {
    this.pages++;
    const [[conversation, delivered]] = wants as [Want];
    const from = delivered ?? 0;
    const head = conversation === 1 ? 1 : PAGES * PAGE_ROWS;
    const rows: LogRow[] = [];
    for (let seq = from + 1; seq <= Math.min(head, from + PAGE_ROWS); seq++)
      rows.push([conversation, seq, MsgId.chat, 1_000_000, 1, null, 0, "hello"]);
    return { rows, names: [[1_000_000, "Ann"]], found: [[from, head, convOf(conversation)]] };
  }
}

const convOf = (user: number) => `u:${user}-1000000`;

function sessionOf(user: number, onPush: () => void): Session {
  const connection = { writable: true, push: onPush } as unknown as Connection;
  const session = new Session(connection, user, `user${user}`, "", false, user);
  session.ready = true;
  return session;
}

test("who lacks one message gets it between the pages of those who lack many", async () => {
  const store = new Stored();
  const log = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
  const delivery = new Delivery(store as unknown as Store, new LocalRouter(), log);
  for (let user = 2; user < 2 + READERS; user++) {
    const session = sessionOf(user, () => undefined);
    delivery.catchUpTo(session, user, convOf(user), PAGES * PAGE_ROWS);
  }
  let pagesBefore = Number.POSITIVE_INFINITY;
  delivery.catchUpTo(
    sessionOf(1, () => {
      pagesBefore = store.pages;
    }),
    1,
    convOf(1),
    1,
  );
  await until(() => store.pages === READERS * PAGES + 1, "all pages");
  // Everybody who came before has had a page, and those who had one before them another.
  expect(pagesBefore).toBeLessThan(2 * READERS);
});

test("a crowd that waits for its turns when pushing stops is let go, and is served when it goes on", async () => {
  const store = new Stored();
  const told: string[] = [];
  const log = { warn: (line: string) => told.push(line) } as unknown as Log;
  const delivery = new Delivery(store as unknown as Store, new LocalRouter(), log);
  let frozen = false;
  delivery.mayPush = () => !frozen;
  let pushed = 0;
  const sessions = Array.from({ length: CROWD }, (_, i) => sessionOf(2 + i, () => pushed++));
  for (const session of sessions) delivery.catchUpTo(session, session.userId, convOf(session.userId), 1);
  frozen = true;
  await until(() => sessions.every(({ reading }) => !reading), "nobody waits");
  expect(told).toEqual([]);
  frozen = false;
  for (const session of sessions) delivery.wake(session);
  await until(() => pushed >= CROWD, "everybody is served");
});
