// Conversations: the logs of two users or of a group, made when something is first written to them.
import type { Conversation, LogKey, Tx } from "../db/db.ts";
import { ChatError, type ConvKey, Errno } from "../protocol.ts";

const COLUMNS = ["id", "kind", "lo", "hi", "last_seq", "member_ver"];
const KINDS = { u: 0, g: 1 };

export const convName = ({ kind, lo, hi }: { kind: number; lo: number; hi: number }): string =>
  kind === KINDS.u ? `u:${lo}-${hi}` : `g:${lo}`;

export const keyOf = ({ kind, lo, hi }: ConvKey): LogKey => [KINDS[kind], lo, hi];

/**
 * The conversations that `keys` name, by name, locked for writing to them. Direct ones between existing users are made
 * where they are missing; what still lacks then (no such user, no such group) is absent from the result.
 */
export async function openConversations(tx: Tx, keys: ConvKey[]): Promise<Map<string, Conversation>> {
  let found = await tx.log.named(keys.map(keyOf));
  if (found.length < keys.length) {
    const names = new Set(found.map(convName));
    const missing = keys.filter((key) => key.kind === "u" && !names.has(nameOfKey(key)));
    if (missing.length > 0) found = found.concat(await createDirect(tx, missing));
  }
  return new Map((await tx.log.lock(found)).map((row) => [convName(row), row]));
}

async function createDirect(tx: Tx, keys: ConvKey[]): Promise<Conversation[]> {
  const ids = [...new Set(keys.flatMap(({ lo, hi }) => [lo, hi]))].map((id) => [id]);
  const users = new Set((await tx.find<{ id: number }>("user", ["id"], ["id"], ids)).map(({ id }) => id));
  const possible = keys.filter(({ lo, hi }) => users.has(lo) && users.has(hi)).map(keyOf);
  await tx.log.create(possible);
  return tx.log.named(possible);
}

const nameOfKey = ({ kind, lo, hi }: ConvKey): string => convName({ kind: KINDS[kind], lo, hi });

/** The log of a group, locked for writing to it. Throws errno 12 where there is no such group. */
export async function lockGroup(tx: Tx, groupId: number): Promise<Conversation> {
  const [row] = await tx.log.lock(await tx.log.named([[KINDS.g, groupId, 0]]));
  if (row === undefined) throw noGroup(groupId);
  return row;
}

/** The id of a group's log. Throws errno 12 where there is no such group. */
export async function groupLog(tx: Tx, groupId: number): Promise<number> {
  const [row] = await tx.log.named([[KINDS.g, groupId, 0]]);
  if (row === undefined) throw noGroup(groupId);
  return row.id;
}

const noGroup = (groupId: number) => new ChatError(Errno.notFound, `groupid: there is no group ${groupId}`);

/** A conversation that is written to `user`, and where they joined it. */
export type Received = Conversation & { user: number; join_seq: number };

const QUALIFIED = COLUMNS.map((column) => `c.${column}`).join(", ");
const RECEIVED = `SELECT ${QUALIFIED}, c.lo AS user, 0 AS join_seq FROM conversation c WHERE kind = 0 AND lo IN (?)
  UNION ALL SELECT ${QUALIFIED}, c.hi, 0 FROM conversation c WHERE kind = 0 AND hi IN (?) AND lo <> hi
  UNION ALL SELECT ${QUALIFIED}, m.user_id, m.join_seq FROM member m JOIN conversation c ON c.id = m.conversation
    WHERE m.user_id IN (?)`;

/** Everything that is written to these users: their direct conversations and their groups. */
export async function conversationsOf(tx: Tx, userIds: number[]): Promise<Received[]> {
  return tx.log.current(await tx.all<Received>(RECEIVED, [userIds, userIds, userIds]));
}
