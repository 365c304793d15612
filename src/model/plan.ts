// What a remote store that divides its writes among lanes must know of the operations.
import type { BatchPlan, Call, Pieces, Tx, Writers } from "../db/db.ts";
import { missingOfEach } from "./device.ts";
import { type Draft, type Drafts, messagesOf, singlesOf } from "./drafts.ts";
import { friendsOfEach, listedByEach } from "./friend.ts";
import { groupsOfEach } from "./group.ts";
import type { Appended } from "./message.ts";
import { devicesOfEach } from "./online.ts";
import { turnDevices } from "./owner.ts";
import { credentialsEach } from "./user.ts";

interface Outcome {
  seq: number;
  conversation: number;
  /** errno, errmsg, field. */
  refused: [number, string, string] | null;
  /** The time of the message that this one repeats. */
  repeated: number | null;
  /** The member list version of the group written to. */
  memberVersion: number | null;
}

const appends: BatchPlan<[Drafts, Pieces], Appended, Draft, Outcome> = {
  operation: "append",

  rowsOf: (batch) => messagesOf(...batch),

  batchOf: singlesOf,

  keyOf: ({ conv }) => conv,

  sizeOf: ({ text }) => text.length,

  outcomesOf: ({ seqs, conversations, refused, repeated, memberVersions }) => {
    const versions = new Map(memberVersions);
    const outcomes: Outcome[] = seqs.map((seq, i) => {
      const conversation = conversations[i]!;
      const memberVersion = versions.get(conversation) ?? null;
      return { seq, conversation, refused: null, repeated: null, memberVersion };
    });
    for (const [i, errno, errmsg, field] of refused) outcomes[i]!.refused = [errno, errmsg, field];
    for (const [i, ts] of repeated) outcomes[i]!.repeated = ts;
    return outcomes;
  },

  resultOf: (outcomes) => {
    const result: Appended = {
      seqs: [],
      conversations: [],
      counts: null,
      refused: [],
      repeated: [],
      memberVersions: [],
    };
    const versions = new Map<number, number>();
    for (const [i, { seq, conversation, refused, repeated, memberVersion }] of outcomes.entries()) {
      result.seqs.push(seq);
      result.conversations.push(conversation);
      if (refused !== null) result.refused.push([i, ...refused]);
      if (repeated !== null) result.repeated.push([i, repeated]);
      if (memberVersion !== null) versions.set(conversation, Math.max(memberVersion, versions.get(conversation) ?? 0));
    }
    result.memberVersions.push(...versions);
    return result;
  },

  refuse: (_, errno, errmsg) => ({
    seq: 0,
    conversation: 0,
    refused: [errno, errmsg, ""],
    repeated: null,
    memberVersion: null,
  }),
};

/** What logins read. */
const reads = {
  credentials: credentialsEach,
  devicesOf: devicesOfEach,
  friendsOf: friendsOfEach,
  groupsOf: groupsOfEach,
  listedBy: listedByEach,
  missingOf: missingOfEach,
};

async function readAll(tx: Tx, calls: Call[]): Promise<unknown[]> {
  const outcomes: unknown[] = Array(calls.length);
  const indexes = Map.groupBy(calls.keys(), (i) => calls[i]![0] as keyof typeof reads);
  const each = [...indexes].map(async ([name, at]) => {
    const read = reads[name] as (tx: Tx, calls: unknown[][]) => Promise<unknown[]>;
    const results = await read(
      tx,
      at.map((i) => calls[i]![1]),
    );
    for (const [k, i] of at.entries()) outcomes[i] = results[k];
  });
  await Promise.all(each);
  return outcomes;
}

export const writers: Writers<typeof appends> = {
  batches: appends,
  events: ["addFriend", "joinGroup"],
  together: [
    { operations: Object.keys(reads), atOnce: 4, run: readAll },
    { operations: ["openDevice", "closeDevices"], atOnce: 1, run: turnDevices },
  ],
};
