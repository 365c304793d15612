// The registry: which function serves each msgId, whether it requires a login, and how it is ordered.
import { MsgId } from "../protocol.ts";
import { heartbeat, login, logout, register } from "./account.ts";
import { chat, confirm, groupChat } from "./chat.ts";
import { addFriend, friends } from "./friend.ts";
import { createGroup, groups, joinGroup } from "./group.ts";
import type { Handler } from "./handler.ts";

export const handlers = new Map<number, Handler>([
  [MsgId.register, { order: "barrier", needsLogin: false, run: register }],
  [MsgId.login, { order: "barrier", needsLogin: false, run: login }],
  [MsgId.chat, { order: "pipelined", needsLogin: true, run: chat }],
  [MsgId.addFriend, { order: "barrier", needsLogin: true, run: addFriend }],
  [MsgId.createGroup, { order: "barrier", needsLogin: true, run: createGroup }],
  [MsgId.joinGroup, { order: "barrier", needsLogin: true, run: joinGroup }],
  [MsgId.groupChat, { order: "pipelined", needsLogin: true, run: groupChat }],
  [MsgId.logout, { order: "barrier", needsLogin: true, storeless: true, run: logout }],
  [MsgId.confirm, { order: "immediate", needsLogin: true, storeless: true, run: confirm }],
  [MsgId.heartbeat, { order: "immediate", needsLogin: false, storeless: true, run: heartbeat }],
  [MsgId.friends, { order: "barrier", needsLogin: true, run: friends }],
  [MsgId.groups, { order: "barrier", needsLogin: true, run: groups }],
]);
