// Messages: how a batch of them is appended to its conversations.
import type { Conversation, LogRow, Pieces, Tx } from "../db/db.ts";
import { listOf, rowsOf, type Series } from "../db/series.ts";
import { Errno, parseConv } from "../protocol.ts";
import { openConversations } from "./conversation.ts";
import { contentsOf, type Drafts, messagesOf, singlesOf } from "./drafts.ts";
import { notMember } from "./group.ts";

export interface Appended {
  /** For each series: its first message's seq, or that of the message it repeats; 0 where it is refused. */
  seqs: number[];
  /** For each series: its conversation's id in the store; 0 where there is none. */
  conversations: number[];
  /** For each series: how many messages it has; null where each has one. */
  counts: number[] | null;
  refused: [index: number, errno: number, errmsg: string, field: string][];
  /** Messages whose `mid` was stored before, and the stored message's time: acknowledged, not delivered again. */
  repeated: [index: number, ts: number][];
  /** The member list versions of the groups written to. */
  memberVersions: [conversation: number, version: number][];
}

/**
 * Appends a batch, giving each message the next seq of its conversation. Repeated mids, membership and unknown
 * receivers are decided here, in the committing transaction; a repetition is answered before rights are checked.
 */
export async function append(tx: Tx, drafts: Drafts, pieces: Pieces): Promise<Appended> {
  const logs = await openConversations(tx, [...new Set(drafts.convs)]);
  const members = await membersAmong(tx, drafts, logs);
  // Repetitions are rare: looked for, message by message, only if the append meets one or a refused one may be one.
  let { all, result, doubtful } = place(drafts, pieces, logs, members, null);
  if (doubtful || (all.length > 0 && !(await tx.log.append(all)))) {
    const [singles, texts] = singlesOf(messagesOf(drafts, pieces));
    ({ all, result } = place(singles, texts, logs, members, await storedMids(tx, singles, logs)));
    if (all.length > 0) await tx.log.append(all);
  }
  for (const log of logs.values()) if (log.kind === 1) result.memberVersions.push([log.id, log.member_ver]);
  return result;
}

/**
 * Decides on every series, in order. `stored` holds the rows whose mids they may repeat, and then each series has one
 * message; null: no repetition is assumed, and `doubtful` says whether a refused message may be one.
 */
function place(
  drafts: Drafts,
  pieces: Pieces,
  logs: Map<string, Conversation>,
  members: Set<string>,
  stored: Map<string, LogRow> | null,
): { all: Series[]; result: Appended; doubtful: boolean } {
  const { convs, kinds, senders, devices, times, counts, lows, tops } = drafts;
  const contents = contentsOf(drafts, pieces);
  const all: Series[] = [];
  const result: Appended = { seqs: [], conversations: [], counts, refused: [], repeated: [], memberVersions: [] };
  const heads = new Map<number, number>();
  let doubtful = false;
  for (let i = 0, message = 0; i < convs.length; message += counts?.[i] ?? 1, i++) {
    const log = logs.get(convs[i]!);
    const sender = senders[i]!;
    const count = counts?.[i] ?? 1;
    const low = lows[i]!;
    const mids = contents.mids[i]!;
    const bodies = contents.bodies[i]!;
    const give = (seq: number) => {
      result.seqs.push(seq);
      result.conversations.push(log?.id ?? 0);
    };
    const refuse = (errno: number, errmsg: string, field = "") => {
      for (let k = 0; k < count; k++) result.refused.push([message + k, errno, errmsg, field]);
      give(0);
      if (low !== null) doubtful = stored === null;
    };
    if (log === undefined) {
      const { kind, lo, hi } = parseConv(convs[i]!)!;
      refuse(
        Errno.notFound,
        kind === "g" ? `groupid: there is no group ${lo}` : `toid: there is no user ${lo === sender ? hi : lo}`,
      );
      continue;
    }
    const first = low === null ? undefined : stored?.get(midKey(log.id, sender, low));
    if (first !== undefined) {
      if (first[7] === listOf(bodies)[0] && first[2] === kinds[i]) {
        result.repeated.push([message, first[6]]);
        give(first[1]);
      } else refuse(Errno.invalidField, "mid: already used for another message", "mid");
      continue;
    }
    if (log.kind === 1 && !members.has(memberKey(log.id, sender))) {
      const { errno, errmsg } = notMember(log.lo);
      refuse(errno, errmsg);
      continue;
    }
    const seq = (heads.get(log.id) ?? log.last_seq) + 1;
    heads.set(log.id, seq + count - 1);
    const series = {
      conversation: log.id,
      seq,
      count,
      kind: kinds[i]!,
      sender,
      device: devices[i]!,
      ts: times[i]!,
      low,
      top: tops?.[i] ?? low,
      mids,
      bodies,
    };
    all.push(series);
    if (low !== null) stored?.set(midKey(log.id, sender, low), rowsOf(series)[0]!);
    give(seq);
  }
  return { all, result, doubtful };
}

/** `seqs` and `conversations` for each message. */
export function placesOf({ seqs, conversations, counts }: Appended): Pick<Appended, "seqs" | "conversations"> {
  if (counts === null) return { seqs, conversations };
  const places: Pick<Appended, "seqs" | "conversations"> = { seqs: [], conversations: [] };
  for (let i = 0; i < counts.length; i++)
    for (let k = 0; k < counts[i]!; k++) {
      places.seqs.push(seqs[i] === 0 ? 0 : seqs[i]! + k);
      places.conversations.push(conversations[i]!);
    }
  return places;
}

const midKey = (conversation: number, sender: number, mid: string): string => `${conversation}/${sender}/${mid}`;
const memberKey = (conversation: number, user: number): string => `${conversation}/${user}`;

async function storedMids(tx: Tx, { convs, senders, lows }: Drafts, logs: Map<string, Conversation>) {
  const keys: [number, number, string][] = [];
  for (const [i, mid] of lows.entries()) {
    const log = logs.get(convs[i]!);
    if (log !== undefined && mid !== null) keys.push([log.id, senders[i]!, mid]);
  }
  const rows = keys.length > 0 ? await tx.log.byMid(keys) : [];
  return new Map(rows.map((row) => [midKey(row[0], row[3], row[5]!), row]));
}

/** The (group, sender) pairs of the batch in which the sender is a member. */
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
