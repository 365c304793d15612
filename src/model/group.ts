// Groups and their members. A group's log is its conversation, which also counts the changes of its membership.
import type { LogRow, Tx } from "../db/db.ts";
import { single } from "../db/series.ts";
import { ChatError, Errno, GROUP_MEMBERS_SHOWN, MsgId, PAGE_LIMIT } from "../protocol.ts";
import { groupLog, lockGroup } from "./conversation.ts";

export type Member = [id: number, name: string, role: string];

export interface Group {
  id: number;
  name: string;
  description: string;
  /** How many members it has. */
  count: number;
  /** The first members, by id. */
  members: Member[];
}

/** Members listed in one answer, over all its groups: with PAGE_LIMIT groups it fits a frame, in legacy shape too. */
const LISTED_MEMBERS = 15_000;
/** Groups read per statement. */
const GROUPS_AT_ONCE = 100;

export interface GroupList {
  /** By ascending id. */
  groups: Group[];
  /** Whether there are more, with higher ids. */
  more: boolean;
}

export async function createGroup(tx: Tx, userId: number, name: string, description: string): Promise<number> {
  const id = await tx.create("chat_group", ["name", "description"], [name, description]);
  const log = await tx.create("conversation", ["kind", "lo", "hi"], [1, id, 0]);
  await tx.insert("member", ["conversation", "user_id", "role", "join_seq"], [[log, userId, "creator", 0]]);
  return id;
}

/** Makes the user a member and tells the members by a row. Older rows are not delivered to the user. */
export async function joinGroup(
  tx: Tx,
  [userId, device, groupId]: [number, number, number],
  ts: number,
): Promise<{ group: Group; row: LogRow; version: number }> {
  const log = await lockGroup(tx, groupId);
  const { id, last_seq } = log;
  if ((await tx.find("member", ["role"], ["conversation", "user_id"], [[id, userId]])).length > 0)
    throw new ChatError(Errno.alreadyDone, `groupid: you are already in group ${groupId}`);
  const seq = last_seq + 1;
  await tx.insert("member", ["conversation", "user_id", "role", "join_seq"], [[id, userId, "normal", seq - 1]]);
  await tx.log.changeMembers(log);
  const row: LogRow = [id, seq, MsgId.joinGroup, userId, device, null, ts, JSON.stringify({ userid: userId })];
  await tx.log.append([single(row)]);
  const groups = await describe(tx, new Map([[id, { groupId, shown: GROUP_MEMBERS_SHOWN }]]));
  return { group: groups.get(id)!, row, version: log.member_ver };
}

/** The user's groups with ids above `after`, at most `limit`. */
export async function groupsOf(tx: Tx, userId: number, after = 0, limit = PAGE_LIMIT): Promise<GroupList> {
  return (await groupsOfEach(tx, [[userId, after, limit]]))[0]!;
}

export async function groupsOfEach(
  tx: Tx,
  calls: [userId: number, after?: number, limit?: number][],
): Promise<GroupList[]> {
  const rows = await tx.all<{ userId: number; id: number; groupId: number }>(
    `SELECT m.user_id AS userId, c.id, c.lo AS groupId FROM member m JOIN conversation c ON c.id = m.conversation
     WHERE m.user_id IN (?) ORDER BY c.lo`,
    [calls.map(([userId]) => userId)],
  );
  const byUser = Map.groupBy(rows, ({ userId }) => userId);
  const lists = calls.map(([userId, after = 0, limit = PAGE_LIMIT]) => {
    const all = (byUser.get(userId) ?? []).filter(({ groupId }) => groupId > after);
    const listed = all.slice(0, limit);
    const shown = Math.min(GROUP_MEMBERS_SHOWN, Math.ceil(LISTED_MEMBERS / listed.length));
    return { listed, shown, more: all.length > limit };
  });
  // Users who log in at the same time often share groups: each group is read once.
  const wanted = new Map<number, Wanted>();
  for (const { listed, shown } of lists)
    for (const { id, groupId } of listed)
      wanted.set(id, { groupId, shown: Math.max(shown, wanted.get(id)?.shown ?? 0) });
  const described = await describe(tx, wanted);
  return lists.map(({ listed, shown, more }) => {
    const groups = listed.map(({ id }) => {
      const group = described.get(id)!;
      return group.members.length <= shown ? group : { ...group, members: group.members.slice(0, shown) };
    });
    return { groups, more };
  });
}

interface Wanted {
  groupId: number;
  /** How many members to list at most. */
  shown: number;
}

/** Reads the groups; the result is keyed by conversation, like `wanted`. */
async function describe(tx: Tx, wanted: Map<number, Wanted>): Promise<Map<number, Group>> {
  const groups = new Map<number, Group>();
  const all = [...wanted];
  for (let from = 0; from < all.length; from += GROUPS_AT_ONCE)
    await describeSome(tx, all.slice(from, from + GROUPS_AT_ONCE), groups);
  return groups;
}

async function describeSome(tx: Tx, wanted: [number, Wanted][], groups: Map<number, Group>): Promise<void> {
  const [named, counted] = await Promise.all([
    tx.find<{ id: number; name: string; description: string }>(
      "chat_group",
      ["id", "name", "description"],
      ["id"],
      wanted.map(([, { groupId }]) => [groupId]),
    ),
    tx.all<{ conversation: number; count: number }>(
      "SELECT conversation, count(*) AS count FROM member WHERE conversation IN (?) GROUP BY conversation",
      [wanted.map(([id]) => id)],
    ),
  ]);
  const names = new Map(named.map((group) => [group.id, group]));
  const counts = new Map(counted.map(({ conversation, count }) => [conversation, count]));
  for (const [id, { groupId }] of wanted)
    groups.set(id, { ...names.get(groupId)!, count: counts.get(id)!, members: [] });
  // Small groups: all their members in one query. Large ones have many more than are shown: one page each.
  const isSmall = ([id, { shown }]: [number, Wanted]) => counts.get(id)! <= shown;
  const small = wanted.filter(isSmall).map(([id]) => id);
  const add = (members: MemberRow[]) => {
    for (const { conversation, id, name, role } of members) groups.get(conversation)!.members.push([id, name, role]);
  };
  await Promise.all([
    small.length === 0
      ? null
      : tx.all<MemberRow>(`${MEMBERS} IN (?) ORDER BY m.conversation, m.user_id`, [small]).then(add),
    ...wanted
      .filter((each) => !isSmall(each))
      .map(async ([id, { shown }]) => {
        groups.get(id)!.members = await page(tx, id, 0, shown);
      }),
  ]);
}

interface MemberRow {
  conversation: number;
  id: number;
  name: string;
  role: string;
}

const MEMBERS =
  "SELECT m.conversation, u.id, u.name, m.role FROM member m JOIN user u ON u.id = m.user_id WHERE m.conversation";

/** A page of members with ids above `after`, for a member. Throws errno 11 (not a member) and 12. */
export async function membersPage(
  tx: Tx,
  userId: number,
  groupId: number,
  after: number,
  limit: number,
): Promise<Member[]> {
  const id = await groupLog(tx, groupId);
  if ((await tx.find("member", ["role"], ["conversation", "user_id"], [[id, userId]])).length === 0)
    throw notMember(groupId);
  return page(tx, id, after, limit);
}

async function page(tx: Tx, conversation: number, after: number, limit: number): Promise<Member[]> {
  const rows = await tx.all<MemberRow>(`${MEMBERS} = ? AND m.user_id > ? ORDER BY m.user_id LIMIT ?`, [
    conversation,
    after,
    limit,
  ]);
  return rows.map(({ id, name, role }) => [id, name, role]);
}

/** The ids of a group's members, and the version of that list. */
export async function memberIds(tx: Tx, conversation: number): Promise<{ version: number; ids: number[] }> {
  // The version is read first: better an old version with newer members than the other way round.
  const [log] = await tx.find<{ member_ver: number }>("conversation", ["member_ver"], ["id"], [[conversation]]);
  const rows = await tx.find<{ user_id: number }>("member", ["user_id"], ["conversation"], [[conversation]]);
  return { version: log?.member_ver ?? 0, ids: rows.map((row) => row.user_id) };
}

export const notMember = (groupId: number): ChatError =>
  new ChatError(Errno.forbidden, `groupid: you are not a member of group ${groupId}`);
