// Accounts and their secrets.
import type { Tx } from "../db/db.ts";
import { ChatError, Errno } from "../protocol.ts";

export interface Credentials {
  id: number;
  name: string;
  /** argon2id, PHC string. */
  password: string;
  tokenEpoch: number;
}

/** Stores a new user and returns its id. Throws errno 1 where the name is taken. */
export async function createUser(tx: Tx, name: string, password: string): Promise<number> {
  if ((await tx.find("user", ["id"], ["name"], [[name]])).length > 0)
    throw new ChatError(Errno.nameTaken, `name: "${name}" is taken, choose another`);
  return tx.create("user", ["name", "password"], [name, password]);
}

/** What a login is checked against; null for an unknown user. */
export async function credentials(tx: Tx, by: "id" | "name", value: number | string): Promise<Credentials | null> {
  return (await credentialsEach(tx, [[by, value]]))[0]!;
}

export async function credentialsEach(
  tx: Tx,
  calls: [by: "id" | "name", value: number | string][],
): Promise<(Credentials | null)[]> {
  const columns = ["id", "name", "password", "token_epoch AS tokenEpoch"];
  const find = (by: "id" | "name") => {
    const keys = calls.filter((call) => call[0] === by).map(([, value]) => [value]);
    return tx.find<Credentials>("user", columns, [by], keys);
  };
  const [byId, byName] = await Promise.all([find("id"), find("name")]);
  const found = {
    id: new Map<number | string, Credentials>(byId.map((user) => [user.id, user])),
    name: new Map<number | string, Credentials>(byName.map((user) => [user.name, user])),
  };
  return calls.map(([by, value]) => found[by].get(value) ?? null);
}

/** Replaces the hash `from` of a password by the newer one `to`; does nothing if the password has changed. */
export async function rehash(tx: Tx, userId: number, from: string, to: string): Promise<void> {
  await tx.run("UPDATE user SET password = ? WHERE id = ? AND password = ?", [to, userId, from]);
}

/** Voids all tokens issued to the user. */
export async function revokeTokens(tx: Tx, userId: number): Promise<void> {
  await tx.run("UPDATE user SET token_epoch = token_epoch + 1 WHERE id = ?", [userId]);
}

/** A user's name. Throws errno 12, naming `field`, where there is no such user. */
export async function nameOf(tx: Tx, userId: number, field: string): Promise<string> {
  const [user] = await tx.find<{ name: string }>("user", ["name"], ["id"], [[userId]]);
  if (user === undefined) throw new ChatError(Errno.notFound, `${field}: there is no user ${userId}`);
  return user.name;
}

/** The setting `name`; stores and returns `fresh` where there was none. */
export async function setting(tx: Tx, name: string, fresh: string): Promise<string> {
  await tx.insert("setting", ["name", "value"], [[name, fresh]], "ignore");
  return (await tx.find<{ value: string }>("setting", ["value"], ["name"], [[name]]))[0]!.value;
}
