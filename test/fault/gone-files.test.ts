// The database's files are removed, moved, replaced or cut off under a running server: from then on nothing is acknowledged that
// would be lost, reading goes on, and what was acknowledged before is in the file that was opened.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Errno, MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, type Wire } from "../wire.ts";

interface Chat {
  file: string;
  server: RunningServer;
  sender: Wire;
  ann: User;
  bob: User;
  acknowledged: number;
}

/** A server at which some messages wait for bob. */
async function start(): Promise<Chat> {
  const file = join(temporaryFolder(), "chat.db");
  const server = await startServer(file);
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const chat = { file, server, sender: await login(server.port, ann), ann, bob, acknowledged: 0 };
  while (chat.acknowledged < 10) await send(chat);
  return chat;
}

async function send(chat: Chat): Promise<unknown> {
  const mid = crypto.randomUUID();
  const { errno } = await chat.sender.ask({ msgId: MsgId.chat, toid: chat.bob.id, msg: "hello", mid });
  if (errno === Errno.ok) chat.acknowledged++;
  return errno;
}

async function isRefused(chat: Chat, amiss: string): Promise<void> {
  await until(async () => (await send(chat)) === Errno.unavailable, "a message is refused");
  expect(chat.server.log()).toContain(`${amiss}: nothing more is stored`);
  expect((await chat.sender.ask({ msgId: MsgId.friends })).errno).toBe(Errno.ok);
}

const notOpened = (path: string) => `${path} is no longer the file that was opened`;

/** A server on `file` has for bob what was acknowledged. */
async function isComplete({ bob, acknowledged }: Chat, file: string): Promise<void> {
  const server = await startServer(file);
  expect((await login(server.port, bob)).answer.offline).toBe(acknowledged);
  await server.stop();
}

test("a file that was moved away is complete, and where it comes back it is used on", async () => {
  const chat = await start();
  const elsewhere = join(temporaryFolder(), "chat.db");
  renameSync(chat.file, elsewhere);
  await isRefused(chat, notOpened(chat.file));
  renameSync(elsewhere, chat.file);
  await until(async () => (await send(chat)) === Errno.ok, "it goes on");
  renameSync(chat.file, elsewhere);
  await isRefused(chat, notOpened(chat.file));
  expect(await chat.server.stop()).toBe(0);
  await isComplete(chat, elsewhere);
});

test("a log that was removed takes nothing with it", async () => {
  const chat = await start();
  rmSync(`${chat.file}-wal`);
  await isRefused(chat, notOpened(`${chat.file}-wal`));
  await chat.server.stop("SIGKILL");
  await isComplete(chat, chat.file);
});

test("files that were put in their place stay as they are", async () => {
  const chat = await start();
  const backup = join(temporaryFolder(), "backup.db");
  const db = new Database(chat.file);
  db.run("VACUUM INTO ?", [backup]);
  db.close();
  for (const suffix of ["", "-wal", "-shm"]) rmSync(chat.file + suffix);
  const before = readFileSync(backup);
  renameSync(backup, chat.file);
  writeFileSync(`${chat.file}-wal`, "another's");
  await isRefused(chat, notOpened(chat.file));
  expect(await chat.server.stop()).toBe(0);
  expect(readFileSync(chat.file).equals(before)).toBe(true);
  expect(readFileSync(`${chat.file}-wal`, "utf8")).toBe("another's");
});

test("a log that is cut off takes what is in it alone, and does not damage the file", async () => {
  const chat = await start();
  const log = `${chat.file}-wal`;
  await chat.server.stop();
  const { acknowledged } = chat;
  chat.server = await startServer(chat.file, CHEAP_PASSWORDS);
  chat.sender = await login(chat.server.port, chat.ann);
  await send(chat);
  truncateSync(log);
  await isRefused(chat, `${log} was cut off`);
  expect(await chat.server.stop()).toBe(0);
  await isComplete({ ...chat, acknowledged }, chat.file);
});
