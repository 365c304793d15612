// Handlers of friend lists.
import { within } from "../db/deadline.ts";
import * as field from "../protocol.ts";
import { directConv, invalid, MAX_FRAME_BYTES } from "../protocol.ts";
import { refuseTooLarge } from "./chat.ts";
import { hintOf } from "./delivery.ts";
import type { Context, Reply, Request } from "./handler.ts";
import { friend } from "./render.ts";
import type { Session } from "./session.ts";

/**
 * {"msgId":1005,"friendId":2,"msg":"hi"} ->
 * {"msgId":1010,"ack":1005,"errno":0,"friend":{"id":2,"name":"bob","state":"offline"}}
 */
export async function addFriend(context: Context, { message }: Request, session: Session): Promise<Reply> {
  const { store, sessions, storeTimeoutMs } = context;
  const { userId, deviceId, name } = session;
  field.ownIds(message, userId);
  const friendId = field.id(message, "friendId");
  if (friendId === userId) throw invalid("friendId", "somebody else's id");
  const word = field.optionalText(message, "msg", MAX_FRAME_BYTES);
  refuseTooLarge(word);
  const adding = store.addFriend([userId, deviceId, friendId], word, Date.now()).then((added) => {
    sessions.delivery.deliver(hintOf(added.row, directConv(userId, friendId), name));
    return added;
  });
  const added = await within(storeTimeoutMs, "addFriend", adding);
  return { fields: { friend: friend([friendId, added.name], await sessions.presence.statesAtLast([friendId])) } };
}

/** {"msgId":1014} -> {"msgId":1010,"ack":1014,"errno":0,"friends":[{"id":2,"name":"bob","state":"online"}]} */
export async function friends({ store, sessions }: Context, _: Request, { userId }: Session): Promise<Reply> {
  const list = await store.friendsOf(userId);
  const stateOf = await sessions.presence.states(list.map(([id]) => id));
  return { fields: { friends: list.map((each) => friend(each, stateOf)) } };
}
