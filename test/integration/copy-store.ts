// A store filled through the real server, and `ChatServer copy` of it, compared or refused, for the tests of copies.
import { Database } from "bun:sqlite";
import { expect } from "bun:test";
import { copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, type Ended, runProgram, startServer, temporaryFolder } from "../harness.ts";
import { databaseOf, type RunningMariadb } from "../services.ts";
import { login, register, type User } from "../wire.ts";

/** From ann to cid, none of them delivered. */
export const MESSAGES = 12_000;

export interface FilledStore {
  /** As a killed server left it: with messages in the journal alone. */
  file: string;
  ann: User;
  bob: User;
  cid: User;
  /** Ann's, with bob in it. */
  groupId: number;
  /** Of ann. */
  token: string;
}

export async function fillStore(): Promise<FilledStore> {
  const file = join(temporaryFolder(), "chat.db");
  let server = await startServer(file);
  await register(server.port);
  const [ann, bob, cid] = [await register(server.port), await register(server.port), await register(server.port)];
  const [onAnn, onBob] = [await login(server.port, ann), await login(server.port, bob, { device: "phone" })];
  const token = onAnn.answer.token as string;
  await onAnn.ask({ msgId: MsgId.addFriend, friendId: bob.id, msg: "hi" });
  await onBob.push(MsgId.addFriend);
  const groupId = (await onAnn.ask({ msgId: MsgId.createGroup, groupname: "Übung 😀", groupdesc: "d'esc\\" }))
    .groupid as number;
  await onBob.ask({ msgId: MsgId.joinGroup, groupid: groupId });
  for (let i = 0; i < MESSAGES; i++)
    onAnn.send({ msgId: MsgId.chat, toid: cid.id, msg: `number ${i}`, ...(i % 2 ? { mid: `m${i}` } : {}) });
  await onAnn.settle();
  // Out of all sessions, so that positions are stored.
  await onBob.ask({ msgId: MsgId.logout });
  await onAnn.ask({ msgId: MsgId.logout });
  const again = await login(server.port, ann, { device: "desk" });
  const special = "\u0000 ' \" \\ \u2028 😀 \u0301 %_?";
  expect((await again.ask({ msgId: MsgId.groupChat, groupid: groupId, msg: special, mid: special })).errno).toBe(0);
  await again.ask({ msgId: MsgId.chat, toid: bob.id, msg: "last words", mid: "last" });
  await server.stop("SIGKILL");
  // Where the machine was so slow that the server found the time to fold its journal.
  while (journalled(file) === 0) {
    server = await startServer(file);
    await (await login(server.port, ann, { device: "desk" })).ask({ msgId: MsgId.chat, toid: ann.id, msg: "note" });
    await server.stop("SIGKILL");
  }
  return { file, ann, bob, cid, groupId, token };
}

/** How many rows are in the journal alone. */
export function journalled(file: string): number {
  const db = new Database(copyOf(file), { readwrite: true });
  const [[count]] = db.query("SELECT count(*) FROM journal").values() as [[number]];
  db.close();
  return count;
}

/** A copy of a file that no process has open, with what is in its write-ahead log. */
export function copyOf(original: string): string {
  const made = join(temporaryFolder(), "chat.db");
  for (const suffix of ["", "-wal"]) if (existsSync(original + suffix)) copyFileSync(original + suffix, made + suffix);
  return made;
}

const copy = (from: string, to: string): Promise<Ended> =>
  runProgram([CHAT_SERVER, "copy", "--from", from, "--to", to], {}, 60_000);

/** What a copy that succeeds says. */
export async function succeed(from: string, to: string): Promise<string> {
  const ended = await copy(from, to);
  expect(ended).toMatchObject({ code: 0, errors: "" });
  return ended.output;
}

/** The one line with which a copy is refused. */
export async function refusal(from: string, to: string): Promise<string> {
  const { code, errors, output } = await copy(from, to);
  expect(code).toBe(1);
  expect(errors).toMatch(/^ChatServer: [^\n]+\n$/);
  for (const secret of ["se:cr@t", "se%3Acr"]) expect(errors + output).not.toContain(secret);
  return errors;
}

/** Every table of the file, but those of the log, is in the database, with all columns that both of them have. */
export async function compare(file: string, mariadb: RunningMariadb, url: string): Promise<void> {
  const db = new Database(copyOf(file), { readwrite: true });
  const tables = db
    .query("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'")
    .values()
    .map(([name]) => name as string)
    .filter((name) => !["journal", "run", "run_end", "mid", "mid_range"].includes(name));
  expect(tables.length).toBeGreaterThan(8);
  for (const table of tables) {
    const columns = (db.query(`SELECT name FROM pragma_table_info('${table}')`).values() as [string][])
      .map(([name]) => name)
      .filter((name) => name !== "boot" && !(table === "conversation" && name === "last_seq"));
    const there = (await mariadb.admin(
      `SELECT ${columns.map((name) => `\`${name}\``)} FROM \`${databaseOf(url)}\`.\`${table}\``,
    )) as Record<string, unknown>[];
    const text = (row: Record<string, unknown>) => JSON.stringify(columns.map((name) => shown(row[name])));
    const here = db.query(`SELECT ${columns} FROM ${table}`).all() as Record<string, unknown>[];
    expect(here.map(text).sort()).toEqual(there.map(text).sort());
    if (table === "message") expect(here.length).toBeGreaterThan(MESSAGES);
  }
  db.close();
  const heads = `SELECT c.last_seq - COUNT(m.seq) AS gap FROM conversation c LEFT JOIN message m ON m.conversation = c.id`;
  const gaps = await mariadb.admin(`USE \`${databaseOf(url)}\`; ${heads} GROUP BY c.id`);
  expect(gaps.every(({ gap }) => gap === 0)).toBe(true);
}

const shown = (value: unknown): unknown => (value instanceof Buffer ? value.toString() : value);
