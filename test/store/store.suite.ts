// What every store must do, whichever database is behind it: run by one test file for each.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { LogRow } from "../../src/db/db.ts";
import type { Store } from "../../src/model/store.ts";
import { ChatError, directConv, Errno, groupConv, MsgId } from "../../src/protocol.ts";
import { drafts, messageTests } from "./messages.suite.ts";

/** Opens the same database again each time it is called. */
type Open = () => Promise<Store>;

const errnoOf = async (work: Promise<unknown>): Promise<number> => {
  try {
    await work;
    return 0;
  } catch (error) {
    return error instanceof ChatError ? error.errno : -1;
  }
};

export function storeSuite(name: string, open: Open): void {
  describe(`store: ${name}`, () => {
    let store: Store;
    let names = 0;
    const user = () => store.createUser(`user-${++names}`, "hash");
    /** Everything a device lacks, page by page as a session reads it. */
    const readAll = async (
      userId: number,
      device: number,
      wants: [number, number | null][],
      rows = 100,
    ): Promise<LogRow[]> => {
      const all: LogRow[] = [];
      const at = new Map(wants);
      for (;;) {
        const page = await store.backlog([userId, device], [...at], rows, 1_000_000);
        for (const [i, [conversation]] of [...at].entries()) at.set(conversation, page.found[i]![0]);
        for (const row of page.rows) at.set(row[0], row[1]);
        all.push(...page.rows);
        if (page.rows.length === 0) return all;
      }
    };

    /** A device's log-in, and what it lacks. */
    const openDevice = async (userId: number, name: string, boot: string) => {
      const device = await store.openDevice(userId, name, boot);
      return { ...device, ...(await store.missingOf(userId, device.id)) };
    };

    beforeAll(async () => {
      store = await open();
    });
    afterAll(() => store.close());

    const reopen = async () => {
      await store.close();
      store = await open();
      return store;
    };
    messageTests({ store: () => store, reopen, user, readAll });

    test("a name is taken once, by its bytes", async () => {
      const id = await store.createUser("Ann", "hash");
      expect(await errnoOf(store.createUser("Ann", "other"))).toBe(Errno.nameTaken);
      expect(await store.createUser("ann", "hash")).not.toBe(id);
      expect(await store.createUser("Ånn", "hash")).not.toBe(id);
      expect(await store.credentials("name", "Ann")).toEqual({ id, name: "Ann", password: "hash", tokenEpoch: 0 });
      expect(await store.credentials("id", id)).toEqual({ id, name: "Ann", password: "hash", tokenEpoch: 0 });
      expect(await store.credentials("name", "nobody")).toBeNull();
    });

    test("two registrations of one name at once: one wins", async () => {
      const errnos = await Promise.all([1, 2, 3].map(() => errnoOf(store.createUser("both", "hash"))));
      expect(errnos.sort()).toEqual([0, Errno.nameTaken, Errno.nameTaken]);
    });

    test("revoked tokens and rehashed passwords last", async () => {
      const id = await user();
      await store.revokeTokens(id);
      await store.rehash(id, "hash", "better");
      await store.rehash(id, "hash", "stale");
      expect(await store.credentials("id", id)).toMatchObject({ tokenEpoch: 1, password: "better" });
    });

    test("a setting keeps its first value", async () => {
      expect(await store.setting("colour", "red")).toBe("red");
      expect(await store.setting("colour", "blue")).toBe("red");
    });

    test("the first device starts at the beginning, the next one where the most advanced stands", async () => {
      const [a, b] = [await user(), await user()];
      const conv = directConv(a, b);
      const { conversations } = await store.append(
        ...drafts({ conv, sender: a, text: "1" }, { conv, sender: a, text: "2" }, { conv, sender: a, text: "3" }),
      );
      const phone = await openDevice(b, "phone", "boot");
      expect(phone).toMatchObject({ epoch: 1, offline: 3, behind: [[conversations[0]!, conv, 0, 3]] });
      await store.saveCursors([[phone.id, 1, [[conversations[0]!, 2]]]]);
      const desk = await openDevice(b, "desk", "boot");
      expect(desk).toMatchObject({ offline: 1, behind: [[conversations[0]!, conv, 2, 3]] });
      const again = await openDevice(b, "phone", "boot");
      expect(again).toMatchObject({ id: phone.id, epoch: 2, offline: 1 });
    });

    test("a cursor never goes back, and one of an earlier log-in is not saved", async () => {
      const [a, b] = [await user(), await user()];
      const conv = directConv(a, b);
      const { conversations } = await store.append(
        ...drafts(...Array.from({ length: 9 }, (_, i) => ({ conv, sender: a, text: `${i}` }))),
      );
      const { id } = await openDevice(b, "", "boot");
      const cursor = conversations[0]!;
      await store.saveCursors([[id, 1, [[cursor, 5]]]]);
      await store.saveCursors([[id, 1, [[cursor, 3]]]]);
      expect((await openDevice(b, "", "boot")).behind).toEqual([[cursor, conv, 5, 9]]);
      await store.saveCursors([[id, 1, [[cursor, 9]]]]);
      expect((await openDevice(b, "", "boot")).behind).toEqual([[cursor, conv, 5, 9]]);
    });

    test("a device is online at its boot until that log-in's session has ended", async () => {
      const [a, b] = [await user(), await user()];
      const phone = await store.openDevice(a, "phone", "here", false);
      expect(phone).toMatchObject({ epoch: 1, from: "" });
      expect(await store.devicesOf([a, b, a], "here")).toEqual([
        { userId: a, device: "phone", epoch: 1, boot: "here" },
      ]);
      // A boot that is not alive holds nothing.
      expect(await store.devicesOf([a, b], "elsewhere")).toEqual([]);
      expect(await store.openDevice(a, "phone", "next", false)).toMatchObject({ id: phone.id, epoch: 2, from: "" });
      expect(await store.replacedAmong([[phone.id, 1]])).toEqual([phone.id]);
      expect(await store.replacedAmong([[phone.id, 2]])).toEqual([]);
      await store.closeDevices([[phone.id, 1]]);
      expect(await store.devicesOf([a], "next")).toHaveLength(1);
      expect((await store.devicesAt(["next", "here"])).map(({ id }) => id)).toContain(phone.id);
      await store.closeDevices([[phone.id, 2]]);
      expect(await store.devicesOf([a], "next")).toEqual([]);
      expect((await store.devicesAt(["next", "here"])).map(({ id }) => id)).not.toContain(phone.id);
    });

    test("what a device sent itself is not counted as following", async () => {
      const [a, b] = [await user(), await user()];
      const device = await openDevice(a, "", "boot");
      const conv = directConv(a, b);
      const { conversations } = await store.append(
        ...drafts({ conv, sender: a, device: device.id, text: "mine" }, { conv, sender: b, text: "yours" }),
      );
      const again = await openDevice(a, "", "boot");
      expect(again.offline).toBe(1);
      await store.saveCursors([[device.id, again.epoch, [[conversations[0]!, 1]]]]);
      expect((await openDevice(a, "", "boot")).offline).toBe(1);
    });

    test("backlog is merged by time, without holes, also where the clock went back", async () => {
      const a = await user();
      const senders = await Promise.all(Array.from({ length: 40 }, user));
      const list = Array.from({ length: 1_200 }, (_, i) => ({
        conv: directConv(a, senders[(i * i) % 40]!),
        sender: senders[(i * i) % 40]!,
        text: `${i}`,
        ts: 10_000 + i,
      }));
      await store.append(...drafts(...list));
      const { id, behind, offline } = await openDevice(a, "", "boot");
      expect(offline).toBe(1_200);
      const rows = await readAll(
        a,
        id,
        behind.map(([conversation]) => [conversation, null]),
        50,
      );
      expect(rows.map((row) => row[7])).toEqual(list.map(({ text }) => text));
      const [x, y] = [await user(), await user()];
      const back = [50, 20, 60].map((ts) => ({ conv: directConv(x, y), sender: x, text: `${ts}`, ts }));
      const { conversations } = await store.append(...drafts(...back));
      expect((await readAll(y, 0, [[conversations[0]!, 0]], 2)).map((row) => row[1])).toEqual([1, 2, 3]);
    });

    test("friends: one-way, once, told by a row of the conversation", async () => {
      const [a, b] = [await user(), await user()];
      const { row } = await store.addFriend([a, 7, b], "hi", 9_000);
      expect(row.slice(1)).toEqual([1, MsgId.addFriend, a, 7, null, 9_000, JSON.stringify({ msg: "hi" })]);
      expect(await errnoOf(store.addFriend([a, 7, b], "hi", 9_000))).toBe(Errno.alreadyDone);
      expect(await errnoOf(store.addFriend([a, 7, 999_999], "hi", 9_000))).toBe(Errno.notFound);
      expect((await store.friendsOf(a)).map(([id]) => id)).toEqual([b]);
      expect(await store.friendsOf(b)).toEqual([]);
      expect(await store.listedBy(b)).toEqual([a]);
      expect((await store.append(...drafts({ conv: directConv(a, b), sender: b, text: "hello" }))).seqs).toEqual([2]);
    });

    test("groups: members, pages, and a join that does not bring what was before", async () => {
      const [a, b, c] = [await user(), await user(), await user()];
      const id = await store.createGroup(a, "hikers", "on foot");
      const before = await store.append(...drafts({ conv: groupConv(id), sender: a, text: "before" }));
      const { row, group, version } = await store.joinGroup([b, 0, id], 9_000);
      expect(row.slice(1, 4)).toEqual([2, MsgId.joinGroup, b]);
      expect(group).toMatchObject({ id, name: "hikers", description: "on foot", count: 2 });
      expect(group.members.map(([member, , role]) => [member, role])).toEqual([
        [a, "creator"],
        [b, "normal"],
      ]);
      expect(await errnoOf(store.joinGroup([b, 0, id], 9_000))).toBe(Errno.alreadyDone);
      expect(await errnoOf(store.joinGroup([b, 0, 999_999], 9_000))).toBe(Errno.notFound);
      expect(await errnoOf(store.membersPage(c, id, 0, 10))).toBe(Errno.forbidden);
      expect(await errnoOf(store.membersPage(c, 999_999, 0, 10))).toBe(Errno.notFound);
      expect((await store.membersPage(a, id, a, 10)).map(([member]) => member)).toEqual([b]);
      expect((await store.membersPage(a, id, 0, 1)).map(([member]) => member)).toEqual([a]);
      expect(await store.memberIds(before.conversations[0]!)).toEqual({ version, ids: [a, b] });
      const after = await store.append(...drafts({ conv: groupConv(id), sender: b, text: "after" }));
      expect(after.memberVersions).toEqual([[before.conversations[0]!, version]]);
      const { behind } = await openDevice(b, "", "boot");
      expect(behind).toEqual([[before.conversations[0]!, groupConv(id), 1, 3]]);
      expect((await store.groupsOf(b)).groups.map((each) => each.id)).toEqual([id]);
      expect(await store.groupsOf(c)).toEqual({ groups: [], more: false });
    });

    test("lists of groups: all members of small ones, some of large ones, in pages", async () => {
      const [a, ...others] = (await Promise.all(Array.from({ length: 206 }, user))) as [number, ...number[]];
      const large = await store.createGroup(a, "large", "");
      await Promise.all(others.map((id) => store.joinGroup([id, 0, large], 1)));
      const small = await store.createGroup(others[0]!, "small", "few");
      await store.joinGroup([a, 0, small], 1);
      const own = await store.createGroup(a, "own", "");
      const listed = (await store.groupsOf(a)).groups.map(({ members, ...group }) => ({
        ...group,
        ids: members.map(([id]) => id),
      }));
      const shown = [a, ...others].sort((x, y) => x - y).slice(0, 200);
      expect(listed).toEqual([
        { id: large, name: "large", description: "", count: 206, ids: shown },
        { id: small, name: "small", description: "few", count: 2, ids: [a, others[0]!].sort((x, y) => x - y) },
        { id: own, name: "own", description: "", count: 1, ids: [a] },
      ]);
      const busy = others[1]!;
      const made = await Promise.all(Array.from({ length: 1_100 }, () => store.createGroup(busy, "g", "")));
      const ids = [large, ...made].sort((x, y) => x - y);
      // Fewer members of each, the more groups there are.
      const { groups, more } = await store.groupsOf(busy);
      expect(groups.map(({ id }) => id)).toEqual(ids.slice(0, 1_000));
      expect([more, groups[0]!.count, groups[0]!.members.length]).toEqual([true, 206, 15]);
      const rest = await store.groupsOf(busy, ids[999]!);
      expect(rest.groups.map(({ id }) => id)).toEqual(ids.slice(1_000));
      expect(rest.more).toBe(false);
      const page = await store.groupsOf(busy, ids[0]!, 2);
      expect([page.groups.map(({ id }) => id), page.more]).toEqual([ids.slice(1, 3), true]);
    }, 60_000);

    test("a new device starts where any of the others stands that is further, also where another one was made after it", async () => {
      const [a, b] = [await user(), await user()];
      const texts = Array.from({ length: 4 }, (_, i) => ({ conv: directConv(a, b), sender: a, text: `${i}` }));
      const [conversation] = (await store.append(...drafts(...texts))).conversations as [number];
      const positions = async (name: string) => (await openDevice(b, name, "here")).behind.map(([, , from]) => from);
      const phone = await store.openDevice(b, "phone", "here");
      expect(await positions("tablet")).toEqual([0]);
      await store.saveCursors([[phone.id, phone.epoch, [[conversation, 2]]]]);
      expect(await positions("laptop")).toEqual([2]);
      // The newest one, which has not been used.
      expect(await positions("watch")).toEqual([2]);
      await store.saveCursors([[phone.id, phone.epoch, [[conversation, 3]]]]);
      expect(await positions("television")).toEqual([3]);
    });

    test("of very many devices the one not used for the longest is forgotten, but none that is online", async () => {
      const a = await user();
      const online = await store.openDevice(a, "online", "here");
      const idle = await store.openDevice(a, "idle", "here");
      for (let i = 0; i < 130; i++) await store.openDevice(a, `${i}`, "here", true, ["online"]);
      expect((await store.openDevice(a, "online", "here")).id).toBe(online.id);
      expect((await store.openDevice(a, "129", "here")).epoch).toBe(2);
      expect((await store.openDevice(a, "idle", "here")).id).toBeGreaterThan(idle.id);
    });

    test("calls that follow each other closely are all answered", async () => {
      const id = await user();
      const calls: Promise<unknown>[] = [];
      for (let i = 0; i < 200; i++) {
        calls.push(store.friendsOf(id));
        // Each is sent to the store by itself.
        await null;
      }
      expect(await Promise.all(calls)).toEqual(calls.map(() => []));
    });

    test("an operation that fails leaves nothing, and those beside it are stored", async () => {
      const [a, b] = [await user(), await user()];
      const taken = `taken-${a}`;
      const done = await Promise.allSettled([
        store.createUser(taken, "hash"),
        store.createUser(taken, "hash"),
        store.append(...drafts({ conv: directConv(a, b), sender: a, text: "stored" })),
        store.addFriend([a, 0, 999_999], "", 1),
      ]);
      const statuses = done.map(({ status }) => status);
      // Of two at once, either may be first.
      expect(statuses.slice(0, 2).sort()).toEqual(["fulfilled", "rejected"]);
      expect(statuses.slice(2)).toEqual(["fulfilled", "rejected"]);
      expect((await openDevice(b, "", "boot")).offline).toBe(1);
      expect(await store.friendsOf(a)).toEqual([]);
    });
  });
}
