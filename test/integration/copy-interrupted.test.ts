// `ChatServer copy` amid breaks: killed, cut off, gone on with; it ends with everything there, or says what is not.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { startForwarder } from "../forwarder.ts";
import { CHAT_SERVER, runProgram, startServer, temporaryFolder, until } from "../harness.ts";
import { databaseOf, type RunningMariadb, startMariadb } from "../services.ts";
import { through } from "../store/mysql-shared.ts";
import { login } from "../wire.ts";
import { compare, copyOf, type FilledStore, fillStore, MESSAGES, refusal, succeed } from "./copy-store.ts";

/** What a copy that is to be interrupted has sent before: well within its messages. */
const HALF_BYTES = 300_000;

let mariadb: RunningMariadb;
let store: FilledStore;

beforeAll(async () => {
  mariadb = await startMariadb();
  store = await fillStore();
}, 60_000);
afterAll(() => mariadb.stop());

describe("interrupted", () => {
  /** A half-done copy: stopped when its messages were under way. */
  async function interrupted(url: string, from = store.file): Promise<void> {
    const forwarder = await startForwarder(mariadb.port);
    let bytes = 0;
    forwarder.watch((data) => {
      bytes += data.length;
      if (bytes > HALF_BYTES) forwarder.swallow();
      return "pass";
    });
    const child = Bun.spawn([CHAT_SERVER, "copy", "--from", from, "--to", through(url, forwarder.port)], {
      stdout: "ignore",
      stderr: "ignore",
    });
    await until(() => bytes > HALF_BYTES, "the copy is half done");
    child.kill("SIGKILL");
    await child.exited;
    forwarder.stop();
    const [row] = await mariadb.admin(`SELECT COUNT(*) AS count FROM ${databaseOf(url)}.message`);
    expect(row!.count).toBeGreaterThan(0);
    expect(row!.count).toBeLessThan(MESSAGES);
  }

  test("kill -9 in the middle: no server takes it, the same command ends it", async () => {
    const url = await mariadb.database();
    await interrupted(url);
    const refused = await runProgram([CHAT_SERVER, "0", "--mysql", url]);
    expect([refused.code, refused.errors]).toEqual([1, expect.stringContaining("holds an incomplete copy")]);
    await succeed(store.file, url);
    await compare(store.file, mariadb, url);
  }, 60_000);

  test("connections that are cut, also between a commit and its answer, are made again", async () => {
    const url = await mariadb.database();
    const forwarder = await startForwarder(mariadb.port);
    let packets = 0;
    let cuts = 0;
    forwarder.watch(() => {
      if (++packets % 29 !== 0 || cuts === 6) return "pass";
      cuts++;
      return "cut";
    });
    const output = await succeed(store.file, through(url, forwarder.port));
    forwarder.stop();
    expect(cuts).toBe(6);
    expect(output).toContain("trying again");
    await compare(store.file, mariadb, url);
  }, 60_000);

  test("another store's copy is not gone on with, nor this one's after it was served again", async () => {
    const url = await mariadb.database();
    const own = copyOf(store.file);
    await interrupted(url, own);
    const other = join(temporaryFolder(), "chat.db");
    await (await startServer(other)).stop();
    expect(await refusal(other, url)).toContain("unfinished copy of another store");
    const server = await startServer(own);
    await login(server.port, store.ann);
    await server.stop();
    expect(await refusal(own, url)).toContain(`DROP DATABASE \`${databaseOf(url)}\``);
  }, 60_000);

  for (const [what, damage] of [
    ["a changed text", "UPDATE message SET body = 'number X' WHERE conversation = 3 AND seq = 1"],
    ["a row that is gone", "DELETE FROM message WHERE conversation = 3 AND seq = 2"],
    ["a row too many", "INSERT INTO friend VALUES (999, 1000)"],
    ["another password", "UPDATE user SET password = CONCAT(password, 'x') WHERE id = 2"],
  ] as const)
    test(`${what} in the database is found`, async () => {
      const url = await mariadb.database();
      await interrupted(url);
      const [row] = await mariadb.admin(
        `USE ${databaseOf(url)}; SELECT MIN(conversation) AS first FROM message GROUP BY conversation ORDER BY COUNT(*) DESC`,
      );
      await mariadb.admin(
        `USE ${databaseOf(url)}; ${damage.replace("conversation = 3", `conversation = ${row!.first}`)}`,
      );
      const told = await refusal(store.file, url);
      expect(told).toMatch(/table \w+ of \S+ differs from \S+ \(.*\): empty the database and copy again/);
      const refused = await runProgram([CHAT_SERVER, "0", "--mysql", url]);
      expect(refused.code).toBe(1);
    }, 60_000);
});
