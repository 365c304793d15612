// The C++ chat server's database, and `ChatServer import` of it, for the tests beside this file.
import { expect } from "bun:test";
import type { JsonObject } from "../../src/protocol.ts";
import { CHAT_SERVER, CHEAP_PASSWORDS, runProgram } from "../harness.ts";
import { databaseOf, type RunningMariadb } from "../services.ts";

/** The tables as the C++ server's chat.sql makes them. */
const SCHEMA = `
CREATE TABLE user (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), password VARCHAR(50),
  state ENUM('online', 'offline') CHARACTER SET latin1 DEFAULT 'offline', UNIQUE KEY name (name)) CHARSET = utf8;
CREATE TABLE friend (userid INT NOT NULL, friendid INT NOT NULL, KEY userid (userid, friendid)) CHARSET = utf8;
CREATE TABLE allgroup (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, groupname VARCHAR(50) NOT NULL,
  groupdesc VARCHAR(200) DEFAULT '') CHARSET = utf8;
CREATE TABLE groupuser (groupid INT NOT NULL, userid INT NOT NULL, grouprole ENUM('creator', 'normal') DEFAULT NULL,
  KEY groupid (groupid, userid)) CHARSET = utf8;
CREATE TABLE offlinemessage (userid INT NOT NULL, message VARCHAR(500) NOT NULL) CHARSET = utf8mb4`;

/** Makes a database of the C++ server with these statements run in it; resolves to its URL. */
export async function predecessor(mariadb: RunningMariadb, sql: string, schema = SCHEMA): Promise<string> {
  const url = await mariadb.database();
  await mariadb.admin(`SET NAMES utf8mb4; USE \`${databaseOf(url)}\`; ${schema}; ${sql}`);
  return url;
}

/** The statement that keeps a message for a user who is offline. */
export const kept = (user: number, message: JsonObject | string): string => {
  const text = typeof message === "string" ? message : JSON.stringify(message);
  return `INSERT INTO offlinemessage VALUES (${user}, '${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}')`;
};
/** When everything was sent: local time, as the C++ server writes it. */
const TIME = "2024-02-22 00:43:59";
export const direct = (id: number, toid: number, msg: string): JsonObject => ({
  id,
  msg,
  msgId: 1004,
  name: "?",
  time: TIME,
  toid,
});
export const inGroup = (id: number, groupid: number, msg: string): JsonObject => ({
  groupid,
  id,
  msg,
  msgId: 1008,
  time: TIME,
});

/** Runs `ChatServer import`, which must end with `code`, one line of error where that is not 0, and no secret. */
export async function runImport(flags: string[], code = 0): Promise<{ output: string; errors: string }> {
  const ended = await runProgram([CHAT_SERVER, "import", ...flags, ...CHEAP_PASSWORDS], {}, 60_000);
  expect([ended.code, ended.errors]).toEqual([code, code === 0 ? "" : expect.stringMatching(/^ChatServer: [^\n]+\n$/)]);
  for (const secret of ["se:cr@t", "se%3Acr", "123456", "hunter2"])
    expect(ended.output + ended.errors).not.toContain(secret);
  return ended;
}
