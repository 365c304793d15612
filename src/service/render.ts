// Rows and records as the JSON that clients get.
import type { LogRow } from "../db/db.ts";
import type { Named } from "../model/friend.ts";
import type { Group, Member } from "../model/group.ts";
import { type ConvKey, clock, type Errno, type JsonObject, MsgId } from "../protocol.ts";

export type State = "online" | "offline";
export type StateOf = (userId: number) => State;

/** The push of a log's row: a message, or an event. */
export function pushOf(
  [, seq, kind, sender, , mid, ts, body]: LogRow,
  conv: string,
  key: ConvKey,
  name: string,
): JsonObject {
  const time = clock(ts);
  const extra = mid === null ? {} : { mid };
  const peer = sender === key.lo ? key.hi : key.lo;
  switch (kind) {
    case MsgId.chat:
      return { msgId: kind, fromid: sender, id: sender, name, toid: peer, msg: body, time, ts, conv, seq, ...extra };
    case MsgId.groupChat:
      return { msgId: kind, id: sender, name, groupid: key.lo, msg: body, time, ts, conv, seq, ...extra };
    case MsgId.addFriend:
      return { msgId: kind, id: sender, name, friendId: peer, ...JSON.parse(body), time, ts, conv, seq };
    default:
      return { msgId: kind, groupid: key.lo, id: sender, name, ...JSON.parse(body), time, ts, conv, seq };
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

/** The server's last word on a connection. */
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
