// The lines a user may type: the commands of the predecessor's client, a few more, and requests as JSON.
import { type JsonObject, type Message, MsgId } from "../protocol.ts";
import type { ChatClient } from "./client.ts";
import type { Show } from "./show.ts";

/** What commands work with. */
export interface Context {
  client: ChatClient;
  show: Show;
  print(...lines: string[]): void;
}

interface Command {
  usage: string;
  help: string;
  /** Runs the command with the text after its first colon; null where that does not match `usage`. */
  run(context: Context, args: string): Promise<void> | null;
}

const COMMANDS: Record<string, Command> = {
  help: { usage: "help", help: "this list", run: async ({ print }) => print(...help()) },
  chat: {
    usage: "chat:ID:MESSAGE",
    help: "write to a user",
    run: (context, args) => {
      const [toid, msg] = idAndText(args);
      if (toid === null || msg === "") return null;
      return send(context, { toid }, context.client.send(toid, msg));
    },
  },
  groupchat: {
    usage: "groupchat:ID:MESSAGE",
    help: "write to a group",
    run: (context, args) => {
      const [groupid, msg] = idAndText(args);
      if (groupid === null || msg === "") return null;
      return send(context, { groupid }, context.client.sendGroup(groupid, msg));
    },
  },
  addfriend: {
    usage: "addfriend:ID[:WORD]",
    help: "add a user to your list",
    run: (context, args) => {
      const [friendId, msg] = idAndText(args);
      return friendId === null
        ? null
        : request(context, MsgId.addFriend, msg === "" ? { friendId } : { friendId, msg });
    },
  },
  creategroup: {
    usage: "creategroup:NAME[:DESCRIPTION]",
    help: "create a group",
    run: (context, args) => {
      const [groupname, groupdesc] = halves(args);
      return groupname === "" ? null : request(context, MsgId.createGroup, { groupname, groupdesc });
    },
  },
  addgroup: {
    usage: "addgroup:ID",
    help: "join a group",
    run: (context, args) => {
      const groupid = idOf(args);
      return groupid === null ? null : request(context, MsgId.joinGroup, { groupid });
    },
  },
  friends: { usage: "friends", help: "your list", run: (context) => request(context, MsgId.friends) },
  groups: { usage: "groups", help: "your groups", run: (context) => request(context, MsgId.groups) },
  loginout: { usage: "loginout", help: "log out (also: logout)", run: logout },
};
const OTHER_NAMES: Record<string, string> = { logout: "loginout" };

/** Runs one line and prints the outcome; resolves when it is answered, to whether all went well. */
export async function runLine(context: Context, line: string): Promise<boolean> {
  const { client, show, print } = context;
  const refuse = (text: string) => {
    print(show.notice(text));
    return false;
  };
  try {
    if (line.trim() === "") return true;
    if (line.trimStart().startsWith("{")) {
      await runRequest(context, line.trim());
      return true;
    }
    const [word, args] = halves(line.trimStart());
    const name = OTHER_NAMES[word.trim().toLowerCase()] ?? word.trim().toLowerCase();
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name]! : null;
    if (command === null) return refuse(`There is no command "${shorten(word)}": help lists them.`);
    if (client.userId === null && name !== "help")
      return refuse('Log in first: 1 on a terminal, or {"msgId":1002,"id":YOUR_ID,"password":"YOUR_PASSWORD"}');
    const running = command.run(context, args);
    if (running === null) return refuse(`Usage: ${command.usage}`);
    await running;
    return true;
  } catch (error) {
    if (error instanceof SyntaxError) return refuse(`Not sent, not a valid request: ${error.message}`);
    print(show.error(error));
    return false;
  }
}

/** Whether the meaning of later lines depends on the answer to this one (it changes who is logged in). */
export const changesUser = (line: string): boolean =>
  /^\s*(\{.*"msgId"\s*:\s*(1000|1002|1009)\b|loginout|logout)/i.test(line);

/** {"msgId":…}: sent as it is. Throws SyntaxError where it is not a request. */
async function runRequest({ client, show, print }: Context, text: string): Promise<void> {
  const answer = await client.requestText(text);
  print(...show.answer(JSON.parse(text) as Message, answer));
}

async function request({ client, show, print }: Context, msgId: number, fields: JsonObject = {}): Promise<void> {
  print(...show.answer({ ...fields, msgId }, await client.request(msgId, fields)));
}

async function send(
  { show, print }: Context,
  to: { toid?: number; groupid?: number },
  sending: Promise<{ time: string }>,
): Promise<void> {
  print(show.sent(to, (await sending).time));
}

async function logout({ client, print }: Context): Promise<void> {
  await client.logout();
  print("Logged out.");
}

function help(): string[] {
  const width = Math.max(...Object.values(COMMANDS).map(({ usage }) => usage.length));
  const line = (usage: string, text: string) => `  ${usage.padEnd(width)}  ${text}`;
  return [
    ...Object.values(COMMANDS).map(({ usage, help }) => line(usage, help)),
    line("quit", "end (also: Ctrl-D)"),
    line('{"msgId":…}', "any request of the protocol, as JSON"),
  ];
}

/** The parts before and after the first colon. */
function halves(text: string): [string, string] {
  const at = text.indexOf(":");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function idOf(text: string): number | null {
  const id = /^\s*\d{1,15}\s*$/.test(text) ? Number(text) : 0;
  return id > 0 ? id : null;
}

function idAndText(args: string): [number | null, string] {
  const [id, text] = halves(args);
  return [idOf(id), text];
}

const shorten = (text: string): string => (text.length > 40 ? `${text.slice(0, 40)}…` : text);
