// Handlers of registering, logging in and out, and heartbeats.
import * as field from "../protocol.ts";
import { ChatError, Errno, invalid, type JsonObject } from "../protocol.ts";
import { readBehind } from "./behind.ts";
import type { Context, Reply, Request } from "./handler.ts";
import { legacyLogin } from "./legacy.ts";
import { friend, group, type State } from "./render.ts";
import { refuseEnded, type Session } from "./session.ts";
import { issueToken, readToken } from "./token.ts";

/** {"msgId":1000,"name":"ann","password":"secret"} -> {"msgId":1001,"errno":0,"id":1} */
export async function register({ store, passwords, log }: Context, { message }: Request): Promise<Reply> {
  const name = field.name(message, "name");
  const password = field.password(message, "password");
  const id = await store.createUser(name, await passwords.hash(password));
  log.info(`user ${id} registered`);
  return { fields: { id } };
}

/**
 * {"msgId":1002,"name":"ann","password":"secret"} ->
 * {"msgId":1003,"errno":0,"id":1,"name":"ann","token":"…","friends":[…],"groups":[…],"offline":2}, then stored messages
 */
export async function login(context: Context, request: Request, current: Session | null): Promise<Reply> {
  const { store, sessions, log } = context;
  const { message, connection } = request;
  if (current !== null)
    throw new ChatError(Errno.alreadyDone, `you are logged in as ${current.userId}: log out first (1009)`);
  const device = field.device(message);
  const takeover = field.flag(message, "takeover");
  const order = sessions.nextOrder();
  const confirms = field.flag(message, "confirm");
  const user = await authenticate(context, message);
  const session = await sessions.logIn(connection, {
    userId: user.id,
    name: user.name,
    device,
    takeover,
    confirms,
    order,
  });
  try {
    const [offline, friends, { groups, more }] = await Promise.all([
      readBehind(store, session),
      store.friendsOf(user.id),
      store.groupsOf(user.id),
    ]);
    const listed = [...friends, ...groups.flatMap(({ members }) => members)].map(([id]) => id);
    const states = await sessions.presence.states(listed);
    const stateOf = (id: number): State => (id === user.id ? "online" : states(id));
    const token = issueToken(
      context.secret,
      { userId: user.id, tokenEpoch: user.tokenEpoch },
      Date.now(),
      context.tokenTtlMs,
    );
    const fields: JsonObject = {
      id: user.id,
      name: user.name,
      token,
      friends: friends.map((each) => friend(each, stateOf)),
      groups: groups.map((each) => group(each, stateOf)),
      ...(more ? { moreGroups: true } : {}),
      offline,
    };
    const legacy = connection.framing === "nul" ? await legacyLogin(sessions.delivery, session, fields) : null;
    refuseEnded(session);
    log.debug(`user ${user.id} logged in from ${connection.remoteAddress}`);
    return {
      fields: legacy?.fields ?? fields,
      afterwards: () => {
        legacy?.pushRest();
        sessions.begin(session);
      },
    };
  } catch (error) {
    // Takes precedence over the store's error: a client that tried again would take the device back.
    refuseEnded(session);
    sessions.end(session);
    throw error;
  }
}

interface Authenticated {
  id: number;
  name: string;
  tokenEpoch: number;
}

async function authenticate(context: Context, message: JsonObject): Promise<Authenticated> {
  const { store, passwords, secret } = context;
  if (message.token !== undefined && message.token !== null) {
    const id = field.id(message, "id");
    const claims = readToken(secret, field.text(message, "token", 1, 512), Date.now());
    const user = claims?.userId === id ? await store.credentials("id", id) : null;
    if (user === null || user.tokenEpoch !== claims!.tokenEpoch)
      throw new ChatError(Errno.badCredentials, "token: not valid for this id, or expired: log in with the password");
    return user;
  }
  const byName = message.id === undefined || message.id === null;
  if (byName && (message.name === undefined || message.name === null))
    throw invalid("id", "an id or a name is required");
  const value = byName ? field.name(message, "name") : field.id(message, "id");
  const password = field.password(message, "password");
  const user = await store.credentials(byName ? "name" : "id", value);
  if (!(await passwords.verify(password, user?.password ?? null)) || user === null)
    throw new ChatError(Errno.badCredentials, `${byName ? "name" : "id"} or password is wrong`);
  if (passwords.isOutdated(user.password)) await store.rehash(user.id, user.password, await passwords.hash(password));
  return user;
}

/** {"msgId":1009,"revoke":true} -> {"msgId":1010,"ack":1009,"errno":0} ; the connection may log in again */
export async function logout({ store, sessions }: Context, { message }: Request, session: Session): Promise<Reply> {
  field.ownIds(message, session.userId);
  if (field.flag(message, "revoke")) await store.revokeTokens(session.userId);
  await sessions.logOut(session);
  return { fields: {} };
}

/** {"msgId":1012} -> {"msgId":1010,"ack":1012,"errno":0,"time":"…"} ; from now on silence ends the session */
export function heartbeat(_: Context, { connection }: Request, session: Session | null): Reply {
  if (session !== null) connection.idleTimeoutApplies = true;
  const ts = Date.now();
  return { fields: { time: field.clock(ts), ts } };
}
