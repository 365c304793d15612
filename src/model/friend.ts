// Friend lists. One-way: B on A's list does not put A on B's.
import type { LogRow, Tx } from "../db/db.ts";
import { single } from "../db/series.ts";
import { ChatError, directConv, Errno, MsgId } from "../protocol.ts";
import { openConversations } from "./conversation.ts";
import { nameOf } from "./user.ts";

export type Named = [id: number, name: string];

/** Puts `friendId` on the user's list, and tells them by a row in their conversation. Throws errno 12 and 13. */
export async function addFriend(
  tx: Tx,
  [userId, device, friendId]: [number, number, number],
  msg: string,
  ts: number,
): Promise<{ name: string; row: LogRow }> {
  const name = await nameOf(tx, friendId, "friendId");
  if ((await tx.find("friend", ["user_id"], ["user_id", "friend_id"], [[userId, friendId]])).length > 0)
    throw new ChatError(Errno.alreadyDone, `friendId: ${friendId} is already on your list`);
  const conv = directConv(userId, friendId);
  const { id, last_seq } = (await openConversations(tx, [conv])).get(conv)!;
  await tx.insert("friend", ["user_id", "friend_id"], [[userId, friendId]]);
  const seq = last_seq + 1;
  const row: LogRow = [id, seq, MsgId.addFriend, userId, device, null, ts, JSON.stringify({ msg })];
  await tx.log.append([single(row)]);
  return { name, row };
}

export async function friendsOf(tx: Tx, userId: number): Promise<Named[]> {
  return (await friendsOfEach(tx, [[userId]]))[0]!;
}

export async function friendsOfEach(tx: Tx, calls: [userId: number][]): Promise<Named[][]> {
  const rows = await tx.all<{ owner: number; id: number; name: string }>(
    `SELECT f.user_id AS owner, u.id, u.name FROM friend f JOIN user u ON u.id = f.friend_id
     WHERE f.user_id IN (?) ORDER BY u.id`,
    [calls.flat()],
  );
  const lists = Map.groupBy(rows, ({ owner }) => owner);
  return calls.map(([userId]) => (lists.get(userId) ?? []).map(({ id, name }) => [id, name]));
}

/** The users whose list holds `userId`. */
export async function listedBy(tx: Tx, userId: number): Promise<number[]> {
  return (await listedByEach(tx, [[userId]]))[0]!;
}

export async function listedByEach(tx: Tx, calls: [userId: number][]): Promise<number[][]> {
  const columns = ["user_id", "friend_id"];
  const rows = await tx.find<{ user_id: number; friend_id: number }>("friend", columns, ["friend_id"], calls);
  const lists = Map.groupBy(rows, (row) => row.friend_id);
  return calls.map(([userId]) => (lists.get(userId) ?? []).map((row) => row.user_id));
}
