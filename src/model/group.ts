// Groups and their members. A group's log is its conversation, which counts the changes of its membership.
import type { LogRow, Tx } from "../db/db.ts";
import { single } from "../db/series.ts";
import { ChatError, Errno, GROUP_MEMBERS_SHOWN, MsgId } from "../protocol.ts";
import { groupLog, lockGroup } from "./conversation.ts";

export type Member = [id: number, name: string, role: string];

export interface Group {
  id: number;
  name: string;
  description: string;
  /** Of members in all. */
  count: number;
  /** The first of them, by id. */
  members: Member[];
}

/** Members listed in one answer, over all of its groups. */
const MEMBERS_PER_ANSWER = 50_000;

export async function createGroup(tx: Tx, userId: number, name: string, description: string): Promise<number> {
  const { id } = await tx.run("INSERT INTO chat_group (name, description) VALUES (?, ?)", [name, description]);
  const log = await tx.run("INSERT INTO conversation (kind, lo, hi) VALUES (1, ?, 0)", [id]);
  await tx.insert("member", ["conversation", "user_id", "role", "join_seq"], [[log.id, userId, "creator", 0]]);
  return id;
}

/** Makes the user a member and tells the members by a row. What was written before is not sent to them. */
export async function joinGroup(
  tx: Tx,
  [userId, device, groupId]: [number, number, number],
  ts: number,
): Promise<{ group: Group; row: LogRow; version: number }> {
  const log = await lockGroup(tx, groupId);
  const { id, last_seq } = log;
  if ((await tx.find("member", ["role"], ["conversation", "user_id"], [[id, userId]])).length > 0)
    throw new ChatError(Errno.alreadyDone, `groupid: you are in group ${groupId} already`);
  const seq = last_seq + 1;
  await tx.insert("member", ["conversation", "user_id", "role", "join_seq"], [[id, userId, "normal", seq - 1]]);
  await tx.log.changeMembers(log);
  const row: LogRow = [id, seq, MsgId.joinGroup, userId, device, null, ts, JSON.stringify({ userid: userId })];
  await tx.log.append([single(row)]);
  return { group: await describe(tx, id, groupId, GROUP_MEMBERS_SHOWN), row, version: log.member_ver };
}

export async function groupsOf(tx: Tx, userId: number): Promise<Group[]> {
  return (await groupsOfEach(tx, [[userId]]))[0]!;
}

export async function groupsOfEach(tx: Tx, calls: [userId: number][]): Promise<Group[][]> {
  const rows = await tx.all<{ userId: number; id: number; groupId: number }>(
    `SELECT m.user_id AS userId, c.id, c.lo AS groupId FROM member m JOIN conversation c ON c.id = m.conversation
     WHERE m.user_id IN (?) ORDER BY c.lo`,
    [calls.flat()],
  );
  const lists = Map.groupBy(rows, ({ userId }) => userId);
  // Those who log in together are often in the same groups.
  const described = new Map<string, Promise<Group>>();
  return Promise.all(
    calls.map(([userId]) => {
      const groups = lists.get(userId) ?? [];
      const shown = Math.min(GROUP_MEMBERS_SHOWN, Math.ceil(MEMBERS_PER_ANSWER / groups.length));
      return Promise.all(
        groups.map(({ id, groupId }) => {
          const key = `${id}/${shown}`;
          const known = described.get(key) ?? describe(tx, id, groupId, shown);
          described.set(key, known);
          return known;
        }),
      );
    }),
  );
}

async function describe(tx: Tx, conversation: number, id: number, shown: number): Promise<Group> {
  const [[group], [counted], members] = await Promise.all([
    tx.find<{ name: string; description: string }>("chat_group", ["name", "description"], ["id"], [[id]]),
    tx.all<{ count: number }>("SELECT count(*) AS count FROM member WHERE conversation = ?", [conversation]),
    page(tx, conversation, 0, shown),
  ]);
  return { id, ...group!, ...counted!, members };
}

/** Members with an id above `after`, for one of them. Throws errno 11 and 12. */
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
  const rows = await tx.all<{ id: number; name: string; role: string }>(
    `SELECT u.id, u.name, m.role FROM member m JOIN user u ON u.id = m.user_id
     WHERE m.conversation = ? AND m.user_id > ? ORDER BY m.user_id LIMIT ?`,
    [conversation, after, limit],
  );
  return rows.map(({ id, name, role }) => [id, name, role]);
}

/** Everybody in a group's log, and the version of that list. */
export async function memberIds(tx: Tx, conversation: number): Promise<{ version: number; ids: number[] }> {
  // First: rather an old version with new members than the other way round.
  const [log] = await tx.find<{ member_ver: number }>("conversation", ["member_ver"], ["id"], [[conversation]]);
  const rows = await tx.find<{ user_id: number }>("member", ["user_id"], ["conversation"], [[conversation]]);
  return { version: log?.member_ver ?? 0, ids: rows.map((row) => row.user_id) };
}

export const notMember = (groupId: number): ChatError =>
  new ChatError(Errno.forbidden, `groupid: you are not a member of group ${groupId}`);
