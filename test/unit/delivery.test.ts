// Rows that wait for a group's list of members, which cannot be read at first.
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
