// Composition root of ./ChatClient: connect, then lines in and lines out until they end. Exit codes: 0 ended; 1 no
// server, something typed may not have been sent, or a line from a pipe failed; 2 wrong arguments.
import { ChatError, Errno, MsgId } from "../protocol.ts";
import { type Options, readOptions, UsageError } from "./cli.ts";
import { ChatClient } from "./client.ts";
import { type Context, changesUser, runLine } from "./commands.ts";
import { logInByDialogue, MENU, registerByDialogue } from "./dialogue.ts";
import type { Events } from "./events.ts";
import { harmless, Show } from "./show.ts";
import { type Manner, Terminal } from "./terminal.ts";

/** How long lines from a pipe wait for a lost connection. */
const RECONNECT_WITHIN_MS = 60_000;
/** How long, at the end, unsent lines may still take. */
const SEND_WITHIN_MS = 5_000;

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2), process.env);
  if (options === null) return;
  const client = new ChatClient(options);
  const show = new Show(options.colours && process.stdout.isTTY === true);
  await greet(options, client);
  if (process.stdin.isTTY && process.stdout.isTTY) runTerminal(options, client, show);
  else await runPipe(client, show);
}

/** Connects, and checks that a chat server answers, before a password is sent to whatever listens there. */
async function greet({ host, port, tls }: Options, client: ChatClient): Promise<void> {
  let [said, reason] = ["", ""];
  const forgetNotice = client.on("notice", ({ errmsg }) => {
    said = errmsg;
  });
  const forgetOffline = client.on("offline", (event) => {
    reason = event.reason;
  });
  try {
    await client.connect();
    await client.request(MsgId.heartbeat);
  } catch (error) {
    const { message } = error as Error;
    const where = `${host} port ${port}`;
    if (error instanceof ChatError) said = message;
    // The server itself gave the reason: nothing to guess.
    if (said !== "") throw new StartError(`${where}: ${harmless(said)}`);
    if (reason === "" && tls === undefined)
      throw new StartError(`${message}: start the server, or give another HOST PORT`);
    const problem = reason === "" ? message : `${where}: ${reason}`;
    const guess = tls === undefined ? "does it expect TLS, or a proxy in between? " : "";
    throw new StartError(`${problem}: ${guess}see --tls in --help`);
  }
  forgetNotice();
  forgetOffline();
}

/** Runs each line when the one before it is answered; then ends. */
async function runPipe(client: ChatClient, show: Show): Promise<void> {
  const print = (...lines: string[]) => {
    for (const line of lines) process.stdout.write(`${line}\n`);
  };
  // The reader of the output may stop reading.
  process.stdout.on("error", ({ code }: NodeJS.ErrnoException) =>
    code === "EPIPE" ? process.exit(0) : fail(new StartError(`cannot write to standard output (${code})`)),
  );
  const context = { client, show, print };
  tellEvents(context);
  let late: Timer | undefined;
  client.on("offline", ({ retryInMs }) => {
    clearTimeout(late);
    // Null: it is reopened when a line needs it.
    if (retryInMs === null) return;
    late = setTimeout(() => fail(new StartError("the server has not come back")), RECONNECT_WITHIN_MS);
  });
  client.on("online", () => clearTimeout(late));
  client.on("ended", () => clearTimeout(late));
  for await (const line of linesOf(process.stdin)) {
    if (isQuit(line)) break;
    if (!(await runLine(context, line))) process.exitCode = 1;
  }
  await client.close();
  process.stdin.destroy();
}

/** Lines end at LF or CR LF only; other characters that some take for line ends are part of the line. */
async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of input) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield line.replace(/\r$/, "");
  }
  if (rest !== "") yield rest;
}

function runTerminal({ host, port }: Options, client: ChatClient, show: Show): void {
  /** Resolves when the lines so far have progressed to where the next one can be interpreted. */
  let turn: Promise<void> = Promise.resolve();
  /** Lines typed or pasted ahead: they also answer the questions of earlier lines. */
  const ahead: string[] = [];
  const terminal = new Terminal({
    onLine: (line) => {
      if (isQuit(line)) return quit();
      ahead.push(line);
      turn = turn.then(async () => {
        const next = ahead.shift();
        if (next !== undefined) await handleLine(next);
      });
    },
    onEnd: () => quit(),
    onLost: () => hangUp(),
  });
  const context = {
    client,
    show,
    print: terminal.print.bind(terminal),
    ask: async (prompt: string, manner?: Manner) => {
      const line = manner === "unforeseen" ? undefined : ahead.shift();
      if (line === undefined) return terminal.ask(prompt, manner);
      terminal.forget(line);
      return line;
    },
  };
  const showMenu = () => {
    show.ownId = 0;
    terminal.print(MENU);
    terminal.setPrompt(show.prompt());
  };

  async function handleLine(line: string): Promise<void> {
    if (client.userId === null) {
      const choice = line.trim();
      if (choice === "1") await logInByDialogue(context);
      else if (choice === "2") await registerByDialogue(context);
      else if (choice === "3") return quit();
      else await runLine(context, line);
    } else if (changesUser(line)) {
      await runLine(context, line);
      if (client.userId === null) showMenu();
    }
    // Not awaited: lines typed before the answer are sent right behind it.
    else runLine(context, line);
  }

  let quitting = false;
  async function quit(): Promise<void> {
    if (quitting) {
      terminal.close();
      process.exit(client.outstanding + ahead.length > 0 ? 1 : 0);
    }
    quitting = true;
    if (client.outstanding + ahead.length > 0) terminal.print(show.notice("Sending what is still unsent…"));
    const endsAt = performance.now() + SEND_WITHIN_MS;
    // A line the server does not answer holds up those typed after it, but not the end.
    if (ahead.length > 0) await Promise.race([turn, Bun.sleep(SEND_WITHIN_MS)]);
    const unsent = ahead.splice(0).length + (await client.close(Math.max(0, endsAt - performance.now())));
    if (unsent > 0) terminal.print(show.notice(`${unsent} line${unsent === 1 ? "" : "s"} may not have been sent.`));
    terminal.close();
    process.exit(unsent > 0 ? 1 : 0);
  }

  /** The terminal is gone: what is not sent yet is still sent. */
  function hangUp(): void {
    if (!quitting) quit();
  }

  process.on("SIGTERM", quit);
  process.on("SIGHUP", hangUp);
  tellEvents(context);
  client.on("online", () => terminal.setPrompt(show.prompt()));
  client.on("ended", showMenu);
  terminal.print(`Connected to ${host} port ${port}.`);
  showMenu();
}

/** Prints what arrives unasked. */
function tellEvents({ client, show, print }: Context): void {
  const tell = <Name extends keyof Events>(name: Name, lines: (event: Events[Name]) => string | string[]) =>
    client.on(name, (event) => {
      try {
        print(...[lines(event)].flat());
      } catch (error) {
        print(show.notice(`The server broke the protocol: ${(error as Error).message}`));
      }
    });
  tell("message", (event) => show.message(event));
  tell("groupMessage", (event) => show.groupMessage(event));
  tell("friendAdded", (event) => show.friendAdded(event));
  tell("groupChanged", (event) => show.groupChanged(event));
  tell("presence", (event) => show.presence(event));
  tell("push", (event) => show.json(event));
  tell("online", ({ login, resumed }) => {
    const lines = show.login(login);
    return resumed ? show.notice("Reconnected.") : lines;
  });
  client.on("offline", ({ reason, retryInMs }) => {
    if (retryInMs !== null)
      print(show.notice(`No connection: ${reason}. Reconnecting; what you send is kept until then.`));
  });
  client.on("ended", ({ errno, errmsg }) =>
    print(
      show.notice(errno === Errno.replaced ? "Logged out: you have logged in elsewhere." : `Logged out: ${errmsg}`),
    ),
  );
}

const isQuit = (line: string): boolean => /^\s*(quit|exit)\s*$/i.test(line);

/** Why the client cannot start or go on, in one line. */
class StartError extends Error {}

function fail(error: unknown): never {
  const isExpected = error instanceof UsageError || error instanceof StartError;
  process.stderr.write(`ChatClient: ${isExpected ? error.message : (error as Error).stack}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
}

main().catch(fail);
