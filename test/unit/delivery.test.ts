// Delivery where things come in an odd order: a list of members that is late, rows behind a client's FIN.
import { expect, test } from "bun:test";
import type { LogRow } from "../../src/db/db.ts";
import type { Store } from "../../src/model/store.ts";
import type { Connection } from "../../src/net/connection.ts";
import { MsgId } from "../../src/protocol.ts";
import { LocalRouter } from "../../src/router/local.ts";
import { Delivery, hintOf } from "../../src/service/delivery.ts";
import type { Log } from "../../src/service/log.ts";
import { Session } from "../../src/service/session.ts";
import { until } from "../harness.ts";

const [CONVERSATION, MEMBER] = [7, 1];
const CONV = "g:1";

test("of rows that come out of their order the newest one stays known", async () => {
  let failures = 1;
  const store = {
    memberIds: async () => {
      if (failures-- > 0) throw new Error("the database is away");
      return { version: 2, ids: [MEMBER] };
    },
    backlog: async () => new Promise(() => undefined),
  };
  const router = new LocalRouter<Session>();
  const log = { warn: () => undefined } as unknown as Log;
  const delivery = new Delivery(store as unknown as Store, router, log);
  const session = new Session({ writable: true } as unknown as Connection, MEMBER, "ann", "", false, 1);
  session.ready = true;
  router.add(session);
  const rowOf = (seq: number): LogRow => [CONVERSATION, seq, MsgId.groupChat, 2, 5, null, 1, "text"];
  for (const seq of [11, 10]) delivery.deliver(hintOf(rowOf(seq), CONV, "bob", 2));
  await until(() => session.byConv.has(CONV), "the members are read");
  expect(session.byConv.get(CONV)!.head).toBe(11);
});

test("who has sent FIN is pushed what there was then, and the connection ends though more is written", async () => {
  let head = 3;
  let finished = 0;
  const pushed: number[] = [];
  const rowOf = (seq: number): LogRow => [CONVERSATION, seq, MsgId.chat, 2, 5, null, 1, "text"];
  const router = new LocalRouter<Session>();
  const store = {
    backlog: async (_: unknown, [[, at]]: [[number, number | null]]) => {
      // Somebody goes on writing: each page is followed by a row.
      head++;
      delivery.deliver(hintOf(rowOf(head), "u:1-2", "bob"));
      return { rows: [rowOf(at! + 1)], names: [[2, "bob"]], found: [[at, head, "u:1-2"]] };
    },
  };
  const delivery = new Delivery(store as unknown as Store, router, { warn: () => undefined } as unknown as Log);
  const connection = {
    writable: true,
    push: (_: unknown, __: unknown, seq: number) => pushed.push(seq),
    finish: () => finished++,
  };
  const session = new Session(connection as unknown as Connection, MEMBER, "ann", "", false, 1);
  session.ready = true;
  router.add(session);
  session.position(CONVERSATION, "u:1-2").start(0);
  session.halfClosed = true;
  session.position(CONVERSATION, "u:1-2").head = 3;
  session.lack(session.position(CONVERSATION, "u:1-2"));
  delivery.wake(session);
  await until(() => finished === 1, "the connection ends", 3_000);
  expect(pushed).toEqual([1, 2, 3]);
});
