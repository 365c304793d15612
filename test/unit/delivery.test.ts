// Delivery where things come in an odd order: a list of members that is late, rows behind a client's FIN; and a backlog page by
// page.
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
  session.markBehind(session.position(CONVERSATION, "u:1-2"));
  delivery.wake(session);
  await until(() => finished === 1, "the connection ends", 3_000);
  expect(pushed).toEqual([1, 2, 3]);
});

/** Sessions whose store has the rows up to `stored` of a conversation that is said to reach to `head`, two a page. */
function behind(stored: number, head: number, { count = 1, failures = 0 } = {}) {
  const warned: string[] = [];
  let reads = 0;
  const store = {
    backlog: async (_: unknown, [[, at]]: [[number, number | null]]) => {
      // Asked without end, it ends the test.
      if (++reads > 100) return new Promise(() => undefined);
      if (reads <= failures) throw new Error("the database is away");
      const seqs = [at! + 1, at! + 2].filter((seq) => seq <= stored);
      const rows = seqs.map((seq): LogRow => [CONVERSATION, seq, MsgId.chat, 2, 5, null, 1, "text"]);
      return { rows, names: [[2, "bob"]], found: [[at, stored, "u:1-2"]] };
    },
  };
  const log = { warn: (text: string) => warned.push(text) } as unknown as Log;
  const delivery = new Delivery(store as unknown as Store, new LocalRouter<Session>(), log);
  const all = Array.from({ length: count }, () => {
    const pushed: number[] = [];
    const connection = { writable: true, push: (_: unknown, __: unknown, seq: number) => pushed.push(seq) };
    const session = new Session(connection as unknown as Connection, MEMBER, "ann", "", false, 1);
    session.ready = true;
    session.position(CONVERSATION, "u:1-2").start(0);
    delivery.catchUpTo(session, CONVERSATION, "u:1-2", head);
    return { session, pushed };
  });
  const isOver = () => all.every(({ session }) => !session.reading);
  return { all, warned, reads: () => reads, isOver };
}

test("a backlog of several pages is read without a rest, also where more sessions than read at once take turns", async () => {
  const { all, warned, isOver } = behind(7, 7, { count: 9 });
  await until(isOver, "all are read");
  for (const { pushed } of all) expect(pushed).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(warned).toEqual([]);
});

test("rows that are announced but not there are asked for again after a rest, not in a loop without end", async () => {
  const { all, warned, reads, isOver } = behind(3, 5);
  await until(isOver, "it has stopped reading");
  expect(all[0]!.pushed).toEqual([1, 2, 3]);
  expect([warned.length, reads()]).toEqual([1, 3]);
  all[0]!.session.ended = true;
});

test("a store that fails is asked again after a rest, and then brings everything", async () => {
  const { all, warned, reads, isOver } = behind(3, 3, { failures: 1 });
  await until(isOver, "it has stopped reading");
  expect([warned.length, reads()]).toEqual([1, 1]);
  await until(() => all[0]!.pushed.length === 3, "it has read again");
  expect(all[0]!.pushed).toEqual([1, 2, 3]);
});
