// Log-in and registration by questions on a terminal.
import { ChatError, Errno } from "../protocol.ts";
import type { ChatClient } from "./client.ts";
import type { Login } from "./events.ts";
import type { Show } from "./show.ts";
import type { Manner } from "./terminal.ts";

export interface Asking {
  client: ChatClient;
  show: Show;
  print(...lines: string[]): void;
  /** Asks on the terminal; null where the user gives up. */
  ask(question: string, manner?: Manner): Promise<string | null>;
}

export const MENU = "1 log in   2 register   3 quit   (or a command, or a request as JSON: see help)";

export async function logInByDialogue(asking: Asking): Promise<void> {
  const who = (await asking.ask("Your id or name: "))?.trim();
  if (!who) return;
  const password = await asking.ask("Password: ", "hidden");
  if (!password) return;
  const byName = { name: who, password };
  if (!/^[1-9]\d{0,14}$/.test(who)) return logIn(asking, byName);
  // A name may consist of digits too.
  await logIn(asking, { id: Number(who), password }, byName);
}

export async function registerByDialogue(asking: Asking): Promise<void> {
  const { client, show, print, ask } = asking;
  const name = (await ask("Name (up to 50 characters): "))?.trim();
  if (!name) return;
  const password = await ask("Password (at least 6 characters): ", "hidden");
  if (!password) return;
  const again = await ask("Repeat the password: ", "hidden");
  if (again === null) return;
  if (again !== password) return print(show.notice("The passwords differ: nothing was registered."));
  try {
    const id = await client.register(name, password);
    print(`Registered: your id is ${id}. Others use it to write to you and to add you.`);
    await logIn(asking, { id, password });
  } catch (error) {
    print(show.error(error));
  }
}

/** Logs in; with `otherwise` if these fields are wrong; taking over another session if the user agrees. */
async function logIn(asking: Asking, fields: Login, otherwise?: Login): Promise<void> {
  const { client, show, print, ask } = asking;
  try {
    // Messages count as delivered when they have been shown.
    await client.login({ ...fields, confirm: true });
  } catch (error) {
    const errno = error instanceof ChatError ? error.errno : Errno.ok;
    if (errno === Errno.badCredentials && otherwise !== undefined) return logIn(asking, otherwise);
    if (errno !== Errno.alreadyOnline || fields.takeover) return print(show.error(error));
    const answer = await ask("You are logged in elsewhere. End that session? (y/n) ", "unforeseen");
    if (/^\s*y(es)?\s*$/i.test(answer ?? "")) await logIn(asking, { ...fields, takeover: true });
  }
}
