// Conversations: the logs of two users or of a group, made when something is first written to them.
import type { Tx } from "../db/db.ts";
import { ChatError, type ConvKey, Errno } from "../protocol.ts";

export interface Conversation {
  id: number;
  kind: number;
  lo: number;
  hi: number;
  last_seq: number;
  member_ver: number;
}

const COLUMNS = ["id", "kind", "lo", "hi", "last_seq", "member_ver"];
const KINDS = { u: 0, g: 1 };

export const convName = ({ kind, lo, hi }: { kind: number; lo: number; hi: number }): string =>
  kind === KINDS.u ? `u:${lo}-${hi}` : `g:${lo}`;

const keyOf = ({ kind, lo, hi }: ConvKey): [number, number, number] => [KINDS[kind], lo, hi];

/**
 * The conversations that `keys` name, by name. Direct ones between existing users are made where they are missing;
 * what still lacks then (no such user, no such group) is absent from the result.
 */
export async function openConversations(tx: Tx, keys: ConvKey[]): Promise<Map<string, Conversation>> {
  const found = await findConversations(tx, keys);
  const missing = keys.filter((key) => key.kind === "u" && !found.has(nameOfKey(key)));
  if (missing.length === 0) return found;
  const ids = [...new Set(missing.flatMap(({ lo, hi }) => [lo, hi]))];
  const users = new Set(
    (
      await tx.find<{ id: number }>(
        "user",
        ["id"],
        ["id"],
        ids.map((id) => [id]),
      )
    ).map(({ id }) => id),
  );
  const possible = missing.filter(({ lo, hi }) => users.has(lo) && users.has(hi));
  await tx.insert("conversation", ["kind", "lo", "hi"], possible.map(keyOf), "ignore");
  for (const [name, conversation] of await findConversations(tx, possible)) found.set(name, conversation);
  return found;
}

/** Those of the conversations that exist, by name. */
export async function findConversations(tx: Tx, keys: ConvKey[]): Promise<Map<string, Conversation>> {
  const rows = tx.log.current(
    await tx.find<Conversation>("conversation", COLUMNS, ["kind", "lo", "hi"], keys.map(keyOf)),
  );
  return new Map(rows.map((row) => [convName(row), row]));
}

const nameOfKey = ({ kind, lo, hi }: ConvKey): string => convName({ kind: KINDS[kind], lo, hi });

/** The log of a group. Throws errno 12 where there is no such group. */
export async function groupLog(tx: Tx, groupId: number): Promise<Conversation> {
  const rows = await tx.find<Conversation>("conversation", COLUMNS, ["kind", "lo", "hi"], [[KINDS.g, groupId, 0]]);
  const [row] = tx.log.current(rows);
  if (row === undefined) throw new ChatError(Errno.notFound, `groupid: there is no group ${groupId}`);
  return row;
}

/** Everything that is written to a user: their direct conversations and their groups, with the user's join there. */
export async function conversationsOf(tx: Tx, userId: number): Promise<(Conversation & { join_seq: number })[]> {
  const columns = COLUMNS.map((column) => `c.${column}`).join(", ");
  const rows = await tx.all<Conversation & { join_seq: number }>(
    `SELECT ${columns}, 0 AS join_seq FROM conversation c WHERE kind = 0 AND lo = ?
     UNION ALL SELECT ${columns}, 0 FROM conversation c WHERE kind = 0 AND hi = ? AND lo <> hi
     UNION ALL SELECT ${columns}, m.join_seq FROM member m JOIN conversation c ON c.id = m.conversation WHERE m.user_id = ?`,
    [userId, userId, userId],
  );
  return tx.log.current(rows);
}
