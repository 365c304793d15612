// What users of the SDK see beside ChatClient: the login, what arrives unasked, and how things fail.
import { type Message, MsgId } from "../protocol.ts";

export type State = "online" | "offline";
export type Friend = { id: number; name: string; state: State };
export type Member = Friend & { role: string };
export type Group = { id: number; groupname: string; groupdesc: string; count: number; users: Member[] };

/** (`id` or `name`) and `password`, or `id` and `token`. */
export interface Login {
  id?: number;
  name?: string;
  password?: string;
  token?: string;
  device?: string;
  takeover?: boolean;
  /** Messages count as delivered when their events have been emitted; otherwise when the kernel has accepted them. */
  confirm?: boolean;
}

/** The answer to a login. */
export interface LoggedIn extends Message {
  id: number;
  name: string;
  token: string;
  friends: Friend[];
  groups: Group[];
  /** There are more groups, with higher ids: ask by request 1015. */
  moreGroups?: true;
  /** How many stored messages follow. */
  offline: number;
}

/** A row of a conversation's log, as every member sees it. */
interface Row extends Message {
  /** The user who sent or did it. */
  id: number;
  name: string;
  time: string;
  /** Milliseconds since 1970 UTC. */
  ts: number;
  conv: string;
  seq: number;
}

export interface DirectMessage extends Row {
  fromid: number;
  toid: number;
  msg: string;
  mid?: string;
}

export interface GroupMessage extends Row {
  groupid: number;
  msg: string;
  mid?: string;
}

/** `id` has put `friendId` on their list. */
export interface FriendAdded extends Row {
  friendId: number;
  msg: string;
}

/** A member came (1007), left (1017), was removed (1018) or given a role (1020), or the group was dissolved (1019). */
export interface GroupChanged extends Row {
  groupid: number;
  userid: number;
  role?: string;
}

export interface Presence extends Message {
  id: number;
  state: State;
}

export interface Events {
  message: DirectMessage;
  groupMessage: GroupMessage;
  friendAdded: FriendAdded;
  groupChanged: GroupChanged;
  presence: Presence;
  /** The server's last message on a connection; its consequence is told by `offline` or `ended`. */
  notice: Message & { errno: number; errmsg: string };
  /** Any other push. */
  push: Message;
  /** Logged in: by the caller, or again after the connection broke (`resumed`). Precedes stored messages. */
  online: { login: LoggedIn; resumed: boolean };
  /** The connection is gone. `retryInMs` is null where nobody was logged in: then the next request connects. */
  offline: { reason: string; retryInMs: number | null };
  /** The session is over and will not be resumed: taken over (errno 21), or the login is no longer valid (errno 3). */
  ended: { errno: number; errmsg: string };
}

const EVENT_OF: Record<number, keyof Events> = {
  [MsgId.chat]: "message",
  [MsgId.groupChat]: "groupMessage",
  [MsgId.addFriend]: "friendAdded",
  [MsgId.joinGroup]: "groupChanged",
  1017: "groupChanged",
  1018: "groupChanged",
  1019: "groupChanged",
  1020: "groupChanged",
  [MsgId.presence]: "presence",
  [MsgId.notice]: "notice",
};

/** The name of the event for a push. */
export const eventOf = (push: Message): keyof Events => EVENT_OF[push.msgId] ?? "push";

/** A failure without an answer from the server (that would be a ChatError). */
export class ClientError extends Error {
  constructor(
    /**
     * unreachable: no connection could be made. lost: it broke before the answer came, so whether the request was
     * carried out is unknown. timeout: no answer in time. full: too much is waiting already. closed: by `close` or
     * `logout`, or because the session is over (`ended`).
     */
    readonly code: "unreachable" | "lost" | "timeout" | "full" | "closed",
    message: string,
  ) {
    super(message);
  }
}

export class Emitter<Of> {
  private readonly listeners = new Map<keyof Of, Set<(event: never) => void>>();

  /** Calls `listener` for every event of this name; returns the function that unsubscribes it. */
  on<Name extends keyof Of>(name: Name, listener: (event: Of[Name]) => void): () => void {
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** An error thrown by a listener becomes an uncaught exception, and stops nothing here. */
  emit<Name extends keyof Of>(name: Name, event: Of[Name]): void {
    for (const listener of this.listeners.get(name) ?? [])
      try {
        (listener as (event: Of[Name]) => void)(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
  }
}
