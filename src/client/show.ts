// What is shown: pushes and answers as lines for people. Remembers names it has seen. No line can control the terminal,
// whatever the server puts in the place of a number.
import { styleText } from "node:util";
import { ChatError, clock, Errno, type JsonObject, type Message, MsgId } from "../protocol.ts";
import type {
  DirectMessage,
  Friend,
  FriendAdded,
  Group,
  GroupChanged,
  GroupMessage,
  LoggedIn,
  Presence,
} from "./events.ts";

/** How many names of users, and of groups, are remembered. */
const MAX_NAMES = 10_000;
/** Entries shown of a list that was not asked for. */
const FEW = 10;

/**
 * `text` without what a terminal would obey: control characters (replaced by their pictures), and characters that
 * change the writing direction, which could make a line look like another one.
 */
export const harmless = (text: unknown): string =>
  String(text)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
    .replace(/[\u0000-\u001f]/g, (each) => String.fromCharCode(0x2400 + each.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");

const ERRNO_NAMES = new Map(
  Object.entries(Errno).map(([name, errno]) => [errno, name.replace(/[A-Z]/g, (each) => `_${each}`).toUpperCase()]),
);

type Style = Parameters<typeof styleText>[0];

export class Show {
  /** The logged-in user's id; 0: nobody. */
  ownId = 0;
  private readonly users = new Map<number, string>();
  private readonly groups = new Map<number, string>();

  constructor(private readonly colours: boolean) {}

  prompt(): string {
    return this.ownId === 0 ? "> " : `${this.style("bold", harmless(this.users.get(this.ownId) ?? "you"))}> `;
  }

  /** {"msgId":1003,…}: who is logged in, the lists, and how many stored messages follow. */
  login(login: LoggedIn): string[] {
    this.ownId = login.id;
    learn(this.users, login.id, login.name);
    const { offline } = login;
    const stored =
      offline === 0 ? [] : [`${harmless(offline)} stored message${offline === 1 ? " follows" : "s follow"}:`];
    return [
      `Logged in as ${this.user(login.id)}.`,
      ...this.friends(login.friends, FEW),
      ...this.groupList(login.groups, FEW),
      ...(login.moreGroups ? moreGroups(login.groups) : []),
      ...stored,
    ];
  }

  friends(friends: Friend[], max = Number.POSITIVE_INFINITY): string[] {
    for (const { id, name } of friends) learn(this.users, id, name);
    if (friends.length === 0) return ["No friends yet: addfriend:ID adds somebody to your list."];
    const first = [...friends].sort((a, b) => Number(b.state === "online") - Number(a.state === "online"));
    const lines = first.slice(0, max).map(({ id, state }) => `  ${this.user(id)} ${this.state(state)}`);
    return ["Friends:", ...lines, ...more(friends.length - max, "friends")];
  }

  groupList(groups: Group[], max = Number.POSITIVE_INFINITY): string[] {
    for (const group of groups) this.learnGroup(group);
    if (groups.length === 0) return ["No groups yet: creategroup:NAME:DESCRIPTION creates one, addgroup:ID joins one."];
    const lines = groups.slice(0, max).map(({ id, groupdesc, count }) => {
      const about = groupdesc === "" ? "" : `: ${harmless(groupdesc)}`;
      return `  ${this.group(id)}${about} ${this.dim(`(${harmless(count)} member${count === 1 ? "" : "s"})`)}`;
    });
    return ["Groups:", ...lines, ...more(groups.length - max, "groups")];
  }

  message({ id, name, toid, msg, time }: DirectMessage): string {
    if (id !== this.ownId) return `${this.at(time)} ${this.user(id, name)}: ${harmless(msg)}`;
    return `${this.at(time)} you to ${toid === id ? "yourself" : this.user(toid)}: ${harmless(msg)}`;
  }

  groupMessage({ id, name, groupid, msg, time }: GroupMessage): string {
    const who = id === this.ownId ? "you" : this.user(id, name);
    return `${this.at(time)} ${this.group(groupid)} · ${who}: ${harmless(msg)}`;
  }

  friendAdded({ id, name, friendId, msg, time }: FriendAdded): string {
    if (id === this.ownId) return `${this.at(time)} you added ${this.user(friendId)} to your list`;
    const word = msg === "" ? "" : `: ${harmless(msg)}`;
    return `${this.at(time)} ${this.user(id, name)} added you to their list${word} ${this.dim(`(addfriend:${harmless(id)} adds them to yours)`)}`;
  }

  groupChanged({ msgId, id, name, groupid, userid, role, time }: GroupChanged): string {
    const who = this.user(id, name);
    const whom = this.user(userid);
    const what: Record<number, string> = {
      [MsgId.joinGroup]: `${who} joined`,
      1017: `${who} left`,
      1018: `${who} removed ${whom}`,
      1019: `${who} dissolved the group`,
      1020: `${who} made ${whom} ${harmless(role)}`,
    };
    return `${this.at(time)} ${this.group(groupid)} · ${what[msgId]}`;
  }

  presence({ id, state }: Presence): string {
    return `${this.at(clock(Date.now()))} ${this.user(id)} is ${this.state(state)}`;
  }

  /** The user's own message is stored. */
  sent({ toid, groupid }: JsonObject, time: unknown): string {
    const to = typeof groupid === "number" ? this.group(groupid) : this.user(toid as number);
    return this.dim(`[${harmless(time)}] sent to ${to}`);
  }

  /** The answer to any request; empty for a login, which has been shown already. */
  answer(request: Message, answer: Message): string[] {
    switch (request.msgId) {
      case MsgId.register:
        return [`Registered: your id is ${harmless(answer.id)}.`];
      case MsgId.login:
        return [];
      case MsgId.chat:
      case MsgId.groupChat:
        return [this.sent(request, answer.time)];
      case MsgId.addFriend: {
        const { id, name, state } = answer.friend as Friend;
        return [`${this.user(id, name)} is now on your list, and ${this.state(state)}.`];
      }
      case MsgId.createGroup: {
        const id = answer.groupid as number;
        learn(this.groups, id, String(request.groupname));
        return [`${this.group(id)} is created: others join it with addgroup:${harmless(id)}.`];
      }
      case MsgId.joinGroup: {
        const group = answer.group as unknown as Group;
        this.learnGroup(group);
        return [`You are now in ${this.group(group.id)}, with ${harmless(group.count)} members.`];
      }
      case MsgId.logout:
        return ["Logged out."];
      case MsgId.friends:
        return this.friends(answer.friends as Friend[]);
      case MsgId.groups:
        if (Array.isArray(answer.groups)) {
          const groups = answer.groups as unknown as Group[];
          return [...this.groupList(groups), ...(answer.more === true ? moreGroups(groups) : [])];
        }
    }
    return [this.json(answer)];
  }

  /** Any message, as JSON. */
  json(message: Message): string {
    return this.dim(harmless(JSON.stringify(message)));
  }

  error(error: unknown): string {
    if (error instanceof ChatError) {
      const name = ERRNO_NAMES.get(error.errno as 0);
      return this.style("red", `error ${harmless(error.errno)}${name ? ` ${name}` : ""}: ${harmless(error.errmsg)}`);
    }
    return this.style("red", harmless((error as Error).message));
  }

  /** A message from the client itself. */
  notice(text: string): string {
    return this.style("yellow", harmless(text));
  }

  dim(text: string): string {
    return this.style("dim", text);
  }

  private at(time: string): string {
    return this.dim(`[${harmless(time)}]`);
  }

  private state(state: string): string {
    return state === "online" ? this.style("green", state) : this.dim(harmless(state));
  }

  private user(id: number, name = this.users.get(id)): string {
    if (name === undefined) return `user ${harmless(id)}`;
    learn(this.users, id, name);
    return `${this.style("cyan", harmless(name))} (${harmless(id)})`;
  }

  private group(id: number): string {
    const name = this.groups.get(id);
    return this.style("magenta", harmless(name === undefined ? `#${id}` : `#${id} ${name}`));
  }

  private learnGroup({ id, groupname, users }: Group): void {
    learn(this.groups, id, groupname);
    for (const user of users) learn(this.users, user.id, user.name);
  }

  private style(style: Style, text: string): string {
    return this.colours ? styleText(style, text, { validateStream: false }) : text;
  }
}

function learn(names: Map<number, string>, id: number, name: string): void {
  names.delete(id);
  names.set(id, name);
  if (names.size > MAX_NAMES) names.delete(names.keys().next().value!);
}

const more = (count: number, command: string): string[] =>
  count > 0 ? [`  and ${count} more: ${command} lists all`] : [];

/** A line for when there are more groups than one answer lists. */
const moreGroups = (listed: Group[]): string[] => [
  `  and more: {"msgId":${MsgId.groups},"after":${harmless(listed.at(-1)?.id ?? 0)}} lists the next ones`,
];
