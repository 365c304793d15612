// Who comes and goes while the answer to a log-in says how they are.
import { expect, test } from "bun:test";
import type { Store } from "../../src/model/store.ts";
import { LocalRouter } from "../../src/router/local.ts";
import type { Elsewhere } from "../../src/service/elsewhere.ts";
import type { Log } from "../../src/service/log.ts";
import { Presence } from "../../src/service/presence.ts";
import { presence, type State } from "../../src/service/render.ts";
import type { Session } from "../../src/service/session.ts";
import { until } from "../harness.ts";

const [FOLLOWER, FRIEND] = [1, 2];

/** One who follows, and what is pushed to them. The friend is found as `found` says, look by look; two looks are over. */
async function follow(found: State[]): Promise<{ users: Presence; session: Session; pushed: string[] }> {
  const pushed: string[] = [];
  const router = new LocalRouter<Session>();
  const users = new Presence({ listedBy: async () => [FOLLOWER] } as unknown as Store, router, {} as Log);
  const online = async () => new Set(found.shift() === "online" ? [FRIEND] : []);
  users.elsewhere = { online } as unknown as Elsewhere;
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
    await users.catchUp(session);
    await until(() => pushed.length > 1, "both are told");
    expect(pushed).toEqual([presence(FRIEND, told), presence(FRIEND, after)]);
    expect(found).toBeEmpty();
  },
);
