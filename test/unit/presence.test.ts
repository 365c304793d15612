// Presence while things go on: who comes and goes meanwhile is told in the end as they are.
import { expect, test } from "bun:test";
import type { Store } from "../../src/model/store.ts";
import type { Connection } from "../../src/net/connection.ts";
import { LocalRouter } from "../../src/router/local.ts";
import type { Log } from "../../src/service/log.ts";
import type { OtherInstances } from "../../src/service/other-instances.ts";
import { Presence } from "../../src/service/presence.ts";
import { presence, type State } from "../../src/service/render.ts";
import { Session } from "../../src/service/session.ts";
import { until } from "../harness.ts";

const [FOLLOWER, FRIEND] = [1, 2];

/** One who follows, and what is pushed to them. The friend is found as `found` says, look by look; two looks are over. */
async function follow(found: State[]): Promise<{ users: Presence; session: Session; pushed: string[] }> {
  const pushed: string[] = [];
  const router = new LocalRouter<Session>();
  const users = new Presence({ listedBy: async () => [FOLLOWER] } as unknown as Store, router, {} as Log);
  const online = async () => new Set(found.shift() === "online" ? [FRIEND] : []);
  users.otherInstances = { online } as unknown as OtherInstances;
  await users.review([FRIEND]);
  await users.review([FRIEND]);
  const session = {
    userId: FOLLOWER,
    device: "",
    ended: false,
    pushable: true,
    connection: { push: (text: string) => pushed.push(text) },
    missedPresence: new Set([FRIEND]),
    takeMissedPresence: () => [FRIEND],
  } as unknown as Session;
  router.add(session);
  return { users, session, pushed };
}

const CHANGES: [State, State][] = [
  ["online", "offline"],
  ["offline", "online"],
];

test.each(CHANGES)("who is %s in a log-in's answer, and %s right after it: that is told", async (answered, after) => {
  const found = [after, after, answered, after];
  const { users, pushed } = await follow(found);
  const stateOf = await users.states([FRIEND]);
  expect(stateOf(FRIEND)).toBe(answered);
  await until(() => pushed.length > 0, "it is told");
  expect(pushed).toEqual([presence(FRIEND, after)]);
  expect(found).toBeEmpty();
});

test.each(CHANGES)(
  "who is %s when a slow reader catches up, and %s right after it: the latter is told last",
  async (told, after) => {
    const found = [after, after, told, after];
    const { users, session, pushed } = await follow(found);
    await users.tellMissed(session);
    await until(() => pushed.length > 1, "both are told");
    expect(pushed).toEqual([presence(FRIEND, told), presence(FRIEND, after)]);
    expect(found).toBeEmpty();
  },
);

/** Who lists everybody, and what is pushed to them; `listedBy` as the store's. */
function watch(listedBy: (id: number) => Promise<number[]>): { users: Presence; session: Session; pushed: string[] } {
  const pushed: string[] = [];
  const router = new LocalRouter<Session>();
  const users = new Presence({ listedBy } as unknown as Store, router, { warn: () => undefined } as unknown as Log);
  const connection = { writable: true, push: (text: string) => pushed.push(text) } as unknown as Connection;
  const session = new Session(connection, FOLLOWER, "ann", "", false, 1);
  session.ready = true;
  router.add(session);
  return { users, session, pushed };
}

test("a look that fails for one user tells nothing old of another one when it is overtaken", async () => {
  const [COMER, OTHER] = [2, 3];
  const slow = Promise.withResolvers<number[]>();
  const asked: number[] = [];
  const { users, pushed } = watch(async (id) => {
    asked.push(id);
    if (asked.filter((each) => each === id).length > 1) return [FOLLOWER];
    if (id === OTHER) throw new Error("the database is away");
    return slow.promise;
  });
  const online = new Set([COMER, OTHER]);
  users.otherInstances = { online: async () => new Set(online) } as unknown as OtherInstances;
  users.review([COMER, OTHER]);
  await until(() => asked.includes(OTHER), "the other one's followers are asked for");
  online.delete(COMER);
  users.review([COMER]);
  // Where that look does not wait for the first one, it is over in this turn.
  await Bun.sleep(1);
  slow.resolve([FOLLOWER]);
  await until(() => pushed.includes(presence(OTHER, "online")), "the look is made again");
  expect(pushed.findLast((text) => text !== presence(OTHER, "online"))).toBe(presence(COMER, "offline"));
});

test("a session that could not be told of thousands is told of all of them", async () => {
  const { users, session, pushed } = watch(async () => [FOLLOWER]);
  const ids = Array.from({ length: 3_000 }, (_, i) => i + 2);
  Object.assign(session.connection, { writable: false });
  for (const id of ids) users.came(id);
  await until(() => session.missedPresence.size === ids.length, "it has missed them");
  Object.assign(session.connection, { writable: true });
  await users.tellMissed(session);
  expect(pushed).toEqual(ids.map((id) => presence(id, "online")));
});

test("who could not be looked at for an answer is told of later", async () => {
  const found: (() => Set<number>)[] = [];
  const { users, pushed } = watch(async () => [FOLLOWER]);
  found.push(() => {
    throw new Error("the database is away");
  });
  const online = async () => (found.shift() ?? (() => new Set([FRIEND])))();
  users.otherInstances = { online } as unknown as OtherInstances;
  expect((await users.statesAtLast([FRIEND]))(FRIEND)).toBe("offline");
  await until(() => pushed.length > 0, "it is told");
  expect(pushed).toEqual([presence(FRIEND, "online")]);
});

test("a slow reader who could not be told of what was missed, because nobody could look, is told later", async () => {
  let isAway = true;
  const { users, session, pushed } = watch(async () => [FOLLOWER]);
  const online = async () => {
    if (isAway) throw new Error("the database is away");
    return new Set([FRIEND]);
  };
  users.otherInstances = { online } as unknown as OtherInstances;
  session.missPresence(FRIEND);
  await users.tellMissed(session);
  expect(pushed).toEqual([]);
  isAway = false;
  await until(() => pushed.length > 0, "it is told");
  expect(pushed[0]).toBe(presence(FRIEND, "online"));
});
