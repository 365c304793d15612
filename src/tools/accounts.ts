// The users of an import: their names are made acceptable to the server, their passwords hashed.
import { appendFileSync, writeFileSync } from "node:fs";
import { ChatError, name as checkName, password as checkPassword } from "../protocol.ts";
import { Passwords } from "../service/password.ts";
import { StartError } from "../start-error.ts";
import type { Import, ImportOptions } from "./import.ts";
import type { Notes } from "./notes.ts";
import { grouped, Progress } from "./progress.ts";
import type { StoreBuilder } from "./store-builder.ts";

/** Maximum length of a name, in characters. */
const NAME_LENGTH = 50;

export async function importUsers(
  { source, builder, notes, users }: Import,
  { memoryKiB, passes, newPasswords }: ImportOptions,
): Promise<void> {
  if (newPasswords !== null) makeFile(newPasswords);
  const passwords = new Passwords({ memoryKiB, passes, queueLimit: Number.POSITIVE_INFINITY });
  const count = await source.count("user");
  const progress = new Progress("users", count);
  let read = 0;
  for await (const page of source.users()) {
    read += page.length;
    const named: [id: number, name: string, password: string][] = [];
    for (const [givenId, givenName, givenPassword] of page) {
      const id = Number(givenId);
      if (!isId(id) || users.has(id)) {
        notes.add("users left out, because their id is not a positive number or not unique", `id ${givenId}`);
        progress.advance(1);
        continue;
      }
      users.add(id);
      const name = await nameFor(id, String(givenName ?? ""), builder, named, notes);
      named.push([
        id,
        name,
        passwordFor(id, name, givenPassword === null ? "" : String(givenPassword), newPasswords, notes),
      ]);
    }
    const rows = await Promise.all(
      named.map(async ([id, name, password]) => {
        const hash = await passwords.hash(password);
        progress.advance(1);
        return [id, name, hash];
      }),
    );
    await builder.transact(() => builder.tx.insert("user", ["id", "name", "password"], rows));
  }
  if (read < count)
    notes.add("users left out, because their id is missing or not unique", `${grouped(count - read)} rows`);
  progress.end(`${grouped(users.size)} imported, passwords hashed`);
}

export const isId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) > 0;

/** An acceptable, unique name: of two users with the same name, the one with the lower id keeps it. */
async function nameFor(
  id: number,
  given: string,
  builder: StoreBuilder,
  page: [number, string, string][],
  notes: Notes,
) {
  const wanted = acceptable(given, `user${id}`);
  const isTaken = async (name: string) =>
    page.some((each) => each[1] === name) || (await builder.tx.find("user", ["id"], ["name"], [[name]])).length > 0;
  let name = wanted;
  for (let n = 1; await isTaken(name); n++) name = withSuffix(wanted, n === 1 ? `-${id}` : `-${id}-${n}`);
  if (name !== wanted)
    notes.add(
      "users renamed, because a lower id has the name",
      `user ${id}: ${JSON.stringify(wanted)} -> ${JSON.stringify(name)}`,
    );
  else if (name !== given)
    notes.add(
      "users renamed to a valid name (1 to 50 characters, no control characters, NFC)",
      `user ${id}: ${JSON.stringify(given.slice(0, 100))} -> ${JSON.stringify(name)}`,
    );
  return name;
}

/** `given` made acceptable to the server as a name; `otherwise` if nothing is left of it. */
export function acceptable(given: string, otherwise: string): string {
  const clean = given
    .toWellFormed()
    .normalize("NFC")
    .replaceAll(/\p{Cc}/gu, "");
  const short = [...clean].slice(0, NAME_LENGTH).join("");
  return checkName({ name: short === "" ? otherwise : short }, "name");
}

const withSuffix = (name: string, suffix: string): string =>
  checkName({ name: [...name].slice(0, NAME_LENGTH - suffix.length).join("") + suffix }, "name");

/** The password to hash: a new one, noted in `newPasswords`, where logins would refuse the given one. */
function passwordFor(id: number, name: string, given: string, newPasswords: string | null, notes: Notes): string {
  try {
    return checkPassword({ password: given }, "password");
  } catch (error) {
    if (!(error instanceof ChatError)) throw error;
  }
  const fresh = Buffer.from(crypto.getRandomValues(new Uint8Array(12))).toString("base64url");
  if (newPasswords === null)
    notes.add(
      "users who cannot log in, because the server takes passwords of 6 to 128 bytes (import again with --new-passwords FILE)",
      `user ${id}: ${JSON.stringify(name)}`,
    );
  else {
    appendFileSync(newPasswords, `${id}\t${name}\t${fresh}\n`);
    notes.add("users with a new password, see the file", `user ${id}: ${JSON.stringify(name)}`);
  }
  return fresh;
}

function makeFile(file: string): void {
  try {
    writeFileSync(file, "", { flag: "wx", mode: 0o600 });
  } catch (error) {
    throw new StartError(
      `--new-passwords: ${file} cannot be created (${(error as { code?: string }).code}): give a new file`,
    );
  }
}
