// Conversations: the logs of two users or of a group. A direct one is created when something is first written to it.
import type { Conversation, Tx } from "../db/db.ts";
import { ChatError, type ConvKey, Errno, groupConv, parseConv } from "../protocol.ts";

const COLUMNS = ["id", "kind", "lo", "hi", "last_seq", "member_ver"];

/**
 * The conversations of these names (each given once), locked for writing to them. Missing direct ones between existing
 * users are created; those still missing (no such user or group) are absent from the result.
 */
export async function openConversations(tx: Tx, convs: string[]): Promise<Map<string, Conversation>> {
  const named = await tx.log.named(convs);
  if (named.size < convs.length) {
    const missing = convs.filter((conv) => !named.has(conv));
    for (const [conv, made] of await createDirect(tx, missing)) named.set(conv, made);
  }
  return tx.log.lock(named);
}

async function createDirect(tx: Tx, convs: string[]): Promise<Map<string, Conversation>> {
  const direct = new Map<string, ConvKey>();
  for (const conv of convs) {
    const key = parseConv(conv)!;
    if (key.kind === "u") direct.set(conv, key);
  }
  if (direct.size === 0) return new Map();
  const ids = [...new Set([...direct.values()].flatMap(({ lo, hi }) => [lo, hi]))].map((id) => [id]);
  const users = new Set((await tx.find<{ id: number }>("user", ["id"], ["id"], ids)).map(({ id }) => id));
  const possible = [...direct].filter(([, { lo, hi }]) => users.has(lo) && users.has(hi)).map(([conv]) => conv);
  await tx.log.create(possible);
  return tx.log.named(possible);
}

/** A group's conversation, locked for writing to it. Throws errno 12 where there is no such group. */
export async function lockGroup(tx: Tx, groupId: number): Promise<Conversation> {
  const conv = groupConv(groupId);
  const row = (await tx.log.lock(await tx.log.named([conv]))).get(conv);
  if (row === undefined) throw noGroup(groupId);
  return row;
}

/** The id of a group's conversation. Throws errno 12 where there is no such group. */
export async function groupLog(tx: Tx, groupId: number): Promise<number> {
  const conv = groupConv(groupId);
  const row = (await tx.log.named([conv])).get(conv);
  if (row === undefined) throw noGroup(groupId);
  return row.id;
}

const noGroup = (groupId: number) => new ChatError(Errno.notFound, `groupid: there is no group ${groupId}`);

/** A conversation that `user` receives, and the seq at which they joined it. */
export type Received = Conversation & { user: number; join_seq: number };

const QUALIFIED = COLUMNS.map((column) => `c.${column}`).join(", ");
const RECEIVED = `SELECT ${QUALIFIED}, c.lo AS user, 0 AS join_seq FROM conversation c WHERE kind = 0 AND lo IN (?)
  UNION ALL SELECT ${QUALIFIED}, c.hi, 0 FROM conversation c WHERE kind = 0 AND hi IN (?) AND lo <> hi
  UNION ALL SELECT ${QUALIFIED}, m.user_id, m.join_seq FROM member m JOIN conversation c ON c.id = m.conversation
    WHERE m.user_id IN (?)`;

/** All that these users receive: their direct conversations and their groups. */
export async function conversationsOf(tx: Tx, userIds: number[]): Promise<Received[]> {
  return tx.log.current(await tx.all<Received>(RECEIVED, [userIds, userIds, userIds]));
}
