// Tokens: a log-in without the password's cost, until they expire, are revoked, or were never ours.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { JsonObject } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";

let server: RunningServer;
const data = `${temporaryFolder()}/chat.db`;

beforeAll(async () => {
  server = await startServer(data);
});

afterAll(() => server.stop());

async function tokenOf(user: User, fields: JsonObject = {}): Promise<string> {
  const wire = await login(server.port, user, fields);
  const { token } = wire.answer;
  await wire.ask({ msgId: 1009 });
  wire.close();
  return token as string;
}

/** The errno of a log-in by token. */
async function tryToken(id: number, token: string): Promise<number> {
  const wire = await Wire.connect(server.port);
  const { errno } = await wire.ask({ msgId: 1002, id, token });
  if (errno === 0) await wire.ask({ msgId: 1009 });
  wire.close();
  return errno as number;
}

test("a token logs in, again and again, and its answer brings another one that does", async () => {
  const user = await register(server.port);
  const token = await tokenOf(user);
  for (let i = 0; i < 3; i++) expect(await tryToken(user.id, token)).toBe(0);
  const wire = await Wire.connect(server.port);
  const answer = await wire.ask({ msgId: 1002, id: user.id, token, device: "phone" });
  expect(answer).toMatchObject({ errno: 0, id: user.id, name: user.name });
  wire.close();
  expect(await tryToken(user.id, answer.token as string)).toBe(0);
});

test("not for another user, and not with a character changed, missing or added", async () => {
  const [user, other] = [await register(server.port), await register(server.port)];
  const token = await tokenOf(user);
  expect(await tryToken(other.id, token)).toBe(3);
  expect(await tryToken(user.id, token.replace(`${user.id}.`, `${other.id}.`))).toBe(3);
  expect(await tryToken(other.id, token.replace(`${user.id}.`, `${other.id}.`))).toBe(3);
  const wire = await Wire.connect(server.port);
  const forged: string[] = [
    `${token}A`,
    `${token}.`,
    ` ${token}`,
    token.slice(1),
    token.slice(0, -1),
    token.toUpperCase(),
  ];
  for (let i = 0; i < token.length; i++)
    // The last character of base64url holds bits that are not part of the signature.
    for (const character of ["0", "A", "."])
      if (token[i] !== character) forged.push(token.slice(0, i) + character + token.slice(i + 1));
  for (const each of forged)
    expect({ each, ...(await wire.ask({ msgId: 1002, id: user.id, token: each })) }).toMatchObject({ each, errno: 3 });
  expect(await wire.ask({ msgId: 1002, id: user.id, token })).toMatchObject({ errno: 0 });
  wire.close();
});

test("1009 leaves tokens valid, 1009 with revoke voids all of the user's, and no one else's", async () => {
  const [user, other] = [await register(server.port), await register(server.port)];
  const [one, two, others] = [await tokenOf(user), await tokenOf(user, { device: "phone" }), await tokenOf(other)];
  const wire = await login(server.port, user);
  const desk = await login(server.port, user, { device: "desk" });
  expect(await wire.ask({ msgId: 1009, revoke: false })).toMatchObject({ errno: 0 });
  expect(await tryToken(user.id, one)).toBe(0);
  expect(await wire.ask({ msgId: 1002, id: user.id, token: two })).toMatchObject({ errno: 0 });
  expect(await wire.ask({ msgId: 1009, revoke: true })).toMatchObject({ errno: 0 });
  for (const token of [one, two, wire.answer.token as string]) expect(await tryToken(user.id, token)).toBe(3);
  expect(await tryToken(other.id, others)).toBe(0);
  // Sessions stay; a new token is good again.
  await desk.settle();
  expect((await desk.ask({ msgId: 1014 })).errno).toBe(0);
  desk.close();
  wire.close();
  expect(await tryToken(user.id, await tokenOf(user))).toBe(0);
});

test("valid after a restart", async () => {
  const user = await register(server.port);
  const token = await tokenOf(user);
  await server.stop("SIGKILL");
  server = await startServer(data);
  expect(await tryToken(user.id, token)).toBe(0);
});

test("not once it has expired", async () => {
  await server.stop();
  server = await startServer(data, [...CHEAP_PASSWORDS, "--token-ttl", "2"]);
  const user = await register(server.port);
  const token = await tokenOf(user);
  const wire = await Wire.connect(server.port);
  await until(async () => {
    const { errno } = await wire.ask({ msgId: 1002, id: user.id, token });
    if (errno === 0) await wire.ask({ msgId: 1009 });
    return errno === 3;
  }, "the expiry");
  expect(await tryToken(user.id, await tokenOf(user))).toBe(0);
  wire.close();
});
