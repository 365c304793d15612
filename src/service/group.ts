// Handlers of groups.
import { within } from "../db/deadline.ts";
import * as field from "../protocol.ts";
import { groupConv, PAGE_LIMIT } from "../protocol.ts";
import { hintOf } from "./delivery.ts";
import type { Context, Reply, Request } from "./handler.ts";
import { group, member } from "./render.ts";
import type { Session } from "./session.ts";

/** {"msgId":1006,"groupname":"hikers","groupdesc":"on foot"} -> {"msgId":1010,"ack":1006,"errno":0,"groupid":1} */
export async function createGroup({ store }: Context, { message }: Request, { userId }: Session): Promise<Reply> {
  field.ownIds(message, userId);
  const name = field.name(message, "groupname");
  const description = field.optionalText(message, "groupdesc", 200);
  return { fields: { groupid: await store.createGroup(userId, name, description) } };
}

/** {"msgId":1007,"groupid":1} -> {"msgId":1010,"ack":1007,"errno":0,"group":{"id":1,"groupname":"hikers",…}} */
export async function joinGroup(context: Context, { message }: Request, session: Session): Promise<Reply> {
  const { store, sessions, storeTimeoutMs } = context;
  const { userId, deviceId, name } = session;
  field.ownIds(message, userId);
  const groupId = field.id(message, "groupid");
  const joining = store.joinGroup([userId, deviceId, groupId], Date.now()).then((joined) => {
    sessions.delivery.deliver(hintOf(joined.row, groupConv(groupId), name, joined.version));
    return joined;
  });
  const joined = await within(storeTimeoutMs, "joinGroup", joining);
  const stateOf = await sessions.presence.statesAtLast(joined.group.members.map(([id]) => id));
  return { fields: { group: group(joined.group, stateOf) } };
}

/**
 * {"msgId":1015} -> {"msgId":1010,"ack":1015,"errno":0,"groups":[…]}, with "more":true where there are more
 * {"msgId":1015,"groupid":1,"after":200,"limit":100} -> {"msgId":1010,"ack":1015,"errno":0,"users":[…],"more":false}
 */
export async function groups({ store, sessions }: Context, { message }: Request, { userId }: Session): Promise<Reply> {
  const isList = message.groupid === undefined || message.groupid === null;
  const after = field.integer(message, "after", 0, Number.MAX_SAFE_INTEGER, 0);
  const limit = field.integer(message, "limit", 1, PAGE_LIMIT, PAGE_LIMIT);
  if (isList) {
    const { groups, more } = await store.groupsOf(userId, after, limit);
    const stateOf = await sessions.presence.states(groups.flatMap(({ members }) => members.map(([id]) => id)));
    return { fields: { groups: groups.map((each) => group(each, stateOf)), ...(more ? { more } : {}) } };
  }
  const groupId = field.id(message, "groupid");
  const users = await store.membersPage(userId, groupId, after, limit + 1);
  const page = users.slice(0, limit);
  const stateOf = await sessions.presence.states(page.map(([id]) => id));
  return { fields: { users: page.map((each) => member(each, stateOf)), more: users.length > limit } };
}
