// Rows and records as the JSON that clients receive.
import type { LogRow } from "../db/db.ts";
import type { Named } from "../model/friend.ts";
import type { Group, Member } from "../model/group.ts";
import type { Outgoing } from "../net/encode.ts";
import { type ConvKey, clock, type Errno, type JsonObject, MsgId } from "../protocol.ts";
import { ChatPush } from "./composed.ts";

/** Longer texts are not composed: a composed message reserves room for all its characters to be escaped. */
const MAX_COMPOSED = 4_096;

export type State = "online" | "offline";
export type StateOf = (userId: number) => State;

/** The push of a log row, a message or an event. On the hot path. */
export function pushOf(row: LogRow, conv: string, key: ConvKey, name: string): Outgoing {
  const kind = row[2];
  if ((kind === MsgId.chat || kind === MsgId.groupChat) && row[7].length <= MAX_COMPOSED)
    return new ChatPush(row, conv, key, name);
  return pushText(row, conv, key, name);
}

/** The same as a string, with one literal per kind. */
export function pushText(
  [, seq, kind, sender, , stored, ts, body]: LogRow,
  conv: string,
  key: ConvKey,
  name: string,
): string {
  const time = clock(ts);
  const peer = sender === key.lo ? key.hi : key.lo;
  const mid = stored ?? undefined;
  switch (kind) {
    case MsgId.chat:
      return JSON.stringify({
        msgId: kind,
        fromid: sender,
        id: sender,
        name,
        toid: peer,
        msg: body,
        time,
        ts,
        conv,
        seq,
        mid,
      });
    case MsgId.groupChat:
      return JSON.stringify({ msgId: kind, id: sender, name, groupid: key.lo, msg: body, time, ts, conv, seq, mid });
    case MsgId.addFriend:
      return JSON.stringify({
        msgId: kind,
        id: sender,
        name,
        friendId: peer,
        ...JSON.parse(body),
        time,
        ts,
        conv,
        seq,
      });
    default:
      return JSON.stringify({
        msgId: kind,
        groupid: key.lo,
        id: sender,
        name,
        ...JSON.parse(body),
        time,
        ts,
        conv,
        seq,
      });
  }
}

export const friend = ([id, name]: Named, stateOf: StateOf): JsonObject => ({ id, name, state: stateOf(id) });

export const member = ([id, name, role]: Member, stateOf: StateOf): JsonObject => ({
  id,
  name,
  state: stateOf(id),
  role,
});

export const group = ({ id, name, description, count, members }: Group, stateOf: StateOf): JsonObject => ({
  id,
  groupname: name,
  groupdesc: description,
  count,
  users: members.map((each) => member(each, stateOf)),
});

export const presence = (id: number, state: State): string => JSON.stringify({ msgId: MsgId.presence, id, state });

/** How long clients are asked to wait, in milliseconds: spread, so that they do not all come back at once. */
export const retryAfterMs = (): number => 500 + Math.floor(Math.random() * 1_000);

/** The last message on a connection. */
export const notice = (
  errno: (typeof Errno)["shuttingDown" | "replaced"],
  errmsg: string,
  extra: JsonObject = {},
): string => JSON.stringify({ msgId: MsgId.notice, errno, errmsg, ...extra });

/** The msgId of the answer to a request. */
const answerTo = (msgId: number): number =>
  msgId === MsgId.register ? MsgId.registered : msgId === MsgId.login ? MsgId.loggedIn : MsgId.answer;

/** An answer. `msgId` is the request's; 0 where it had none. */
export function answer(msgId: number, reqId: string | number | undefined, errno: number, fields: JsonObject): string {
  const id = answerTo(msgId);
  return JSON.stringify({ msgId: id, ack: id === MsgId.answer ? msgId : undefined, reqId, errno, ...fields });
}
