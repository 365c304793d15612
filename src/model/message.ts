// Messages: how a batch is appended to its conversations, and how what a device lacks is read back.
import type { Conversation, LogRow, Tx } from "../db/db.ts";
import { Errno, parseConv } from "../protocol.ts";
import { openConversations } from "./conversation.ts";
import { notMember } from "./group.ts";

/** A batch of chat messages in columns, because that crosses threads cheapest. */
export interface Drafts {
  convs: string[];
  /** The msgId of the push. */
  kinds: number[];
  senders: number[];
  devices: number[];
  mids: (string | null)[];
  /** Milliseconds since 1970 UTC; only the first, where all are the same. */
  times: number[];
  texts: string[];
}

export interface Appended {
  /** By draft: the seq it was given, or that of the message it repeats; 0 where it is refused. */
  seqs: number[];
  /** By draft: its conversation's id in the store. */
  conversations: number[];
  refused: [index: number, errno: number, errmsg: string, field: string][];
  /** Drafts whose `mid` was stored before, and the time of the stored message: acknowledged, not delivered again. */
  repeated: [index: number, ts: number][];
  /** Of the groups written to. */
  memberVersions: [conversation: number, version: number][];
}

/**
 * Appends a batch, giving each draft the next seq of its conversation. Repeated mids, membership and unknown
 * receivers are decided here, in the committing transaction; a repetition is answered before rights are asked.
 */
export async function append(tx: Tx, drafts: Drafts): Promise<Appended> {
  const logs = await openConversations(tx, [...new Set(drafts.convs)]);
  const members = await membersAmong(tx, drafts, logs);
  // Repetitions are rare, so they are looked for only where the append meets one or rights are missing.
  let { rows, result } = place(drafts, logs, members, null);
  const doubtful = result.refused.some(([index]) => drafts.mids[index] !== null);
  if (doubtful || (rows.length > 0 && !(await tx.log.append(rows)))) {
    ({ rows, result } = place(drafts, logs, members, await storedMids(tx, drafts, logs)));
    if (rows.length > 0) await tx.log.append(rows);
  }
  for (const log of logs.values()) if (log.kind === 1) result.memberVersions.push([log.id, log.member_ver]);
  return result;
}

/** Decides on every draft, in order. `stored`: the rows whose mid one of them repeats; null: as if none did. */
function place(
  { convs, kinds, senders, devices, mids, times, texts }: Drafts,
  logs: Map<string, Conversation>,
  members: Set<string>,
  stored: Map<string, LogRow> | null,
): { rows: LogRow[]; result: Appended } {
  const count = convs.length;
  const heads = new Map<number, number>();
  const rows: LogRow[] = [];
  const result: Appended = { seqs: [], conversations: [], refused: [], repeated: [], memberVersions: [] };
  for (let i = 0; i < count; i++) {
    const log = logs.get(convs[i]!);
    const sender = senders[i]!;
    const mid = mids[i]!;
    result.conversations.push(log?.id ?? 0);
    result.seqs.push(0);
    if (log === undefined) {
      const { kind, lo, hi } = parseConv(convs[i]!)!;
      const errmsg =
        kind === "g" ? `groupid: there is no group ${lo}` : `toid: there is no user ${lo === sender ? hi : lo}`;
      result.refused.push([i, Errno.notFound, errmsg, ""]);
      continue;
    }
    const first = mid === null ? undefined : stored?.get(midKey(log.id, sender, mid));
    if (first !== undefined) {
      if (first[7] === texts[i] && first[2] === kinds[i]) {
        result.seqs[i] = first[1];
        result.repeated.push([i, first[6]]);
      } else result.refused.push([i, Errno.invalidField, "mid: it has been used for another message", "mid"]);
      continue;
    }
    if (log.kind === 1 && !members.has(memberKey(log.id, sender))) {
      const { errno, errmsg } = notMember(log.lo);
      result.refused.push([i, errno, errmsg, ""]);
      continue;
    }
    const seq = (heads.get(log.id) ?? log.last_seq) + 1;
    heads.set(log.id, seq);
    const row: LogRow = [log.id, seq, kinds[i]!, sender, devices[i]!, mid, times[i] ?? times[0]!, texts[i]!];
    rows.push(row);
    if (mid !== null) stored?.set(midKey(log.id, sender, mid), row);
    result.seqs[i] = seq;
  }
  return { rows, result };
}

const midKey = (conversation: number, sender: number, mid: string): string => `${conversation}/${sender}/${mid}`;
const memberKey = (conversation: number, user: number): string => `${conversation}/${user}`;

async function storedMids(tx: Tx, { convs, senders, mids }: Drafts, logs: Map<string, Conversation>) {
  const keys: [number, number, string][] = [];
  for (let i = 0; i < mids.length; i++) {
    const log = logs.get(convs[i]!);
    const mid = mids[i];
    if (log !== undefined && mid !== null && mid !== undefined) keys.push([log.id, senders[i]!, mid]);
  }
  const rows = keys.length > 0 ? await tx.log.byMid(keys) : [];
  return new Map(rows.map((row) => [midKey(row[0], row[3], row[5]!), row]));
}

/** Which senders of group messages are members. */
async function membersAmong(tx: Tx, { convs, senders }: Drafts, logs: Map<string, Conversation>): Promise<Set<string>> {
  const keys = new Map<string, [number, number]>();
  for (let i = 0; i < convs.length; i++) {
    const log = logs.get(convs[i]!);
    if (log?.kind === 1) keys.set(memberKey(log.id, senders[i]!), [log.id, senders[i]!]);
  }
  if (keys.size === 0) return new Set();
  const columns = ["conversation", "user_id"];
  const rows = await tx.find<{ conversation: number; user_id: number }>("member", columns, columns, [...keys.values()]);
  return new Set(rows.map((row) => memberKey(row.conversation, row.user_id)));
}
