// The registry: which function serves each msgId, whether it requires a log-in, and how it is ordered.
import { MsgId } from "../protocol.ts";
import { heartbeat, login, logout, register } from "./account.ts";
import { chat, confirm, groupChat } from "./chat.ts";
import { addFriend, friends } from "./friend.ts";
import { createGroup, groups, joinGroup } from "./group.ts";
import type { Handler } from "./handler.ts";

export const handlers = new Map<number, Handler>([
  [MsgId.register, { order: "barrier", login: false, run: register }],
  [MsgId.login, { order: "barrier", login: false, run: login }],
  [MsgId.chat, { order: "pipelined", login: true, run: chat }],
  [MsgId.addFriend, { order: "barrier", login: true, run: addFriend }],
  [MsgId.createGroup, { order: "barrier", login: true, run: createGroup }],
  [MsgId.joinGroup, { order: "barrier", login: true, run: joinGroup }],
  [MsgId.groupChat, { order: "pipelined", login: true, run: groupChat }],
  [MsgId.logout, { order: "barrier", login: true, storeless: true, run: logout }],
  [MsgId.confirm, { order: "immediate", login: true, storeless: true, run: confirm }],
  [MsgId.heartbeat, { order: "immediate", login: false, storeless: true, run: heartbeat }],
  [MsgId.friends, { order: "barrier", login: true, run: friends }],
  [MsgId.groups, { order: "barrier", login: true, run: groups }],
]);
