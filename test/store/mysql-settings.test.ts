// A server whose administrator has set for everybody what one need not: a session has its own settings all the same.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { groupConv } from "../../src/protocol.ts";
import { databaseOf, type RunningMariadb, startMariadb } from "../services.ts";
import { messages, openShared, type SharedStore } from "./mysql-shared.ts";

/** In GBK the second half of its last character is a backslash. */
const TEXT = "誠',1); UPDATE user SET token_epoch = 4242; -- ";

let mariadb: RunningMariadb;
let store: SharedStore;
beforeAll(async () => {
  mariadb = await startMariadb([
    "--skip-character-set-client-handshake",
    "--character-set-server=gbk",
    "--innodb-default-row-format=compact",
  ]);
  await mariadb.admin(
    "SET GLOBAL completion_type = CHAIN, sql_safe_updates = 1, sql_select_limit = 20, sql_mode = NO_BACKSLASH_ESCAPES",
  );
  store = await openShared(mariadb.url);
}, 30_000);
afterAll(async () => {
  await store.close();
  await mariadb.stop();
});

test("names, mids and texts are what they are, and end no quotes", async () => {
  const name = `${TEXT}😀`;
  const ann = await store.createUser(name, "hash");
  expect(await store.credentials("name", name)).toMatchObject({ id: ann, tokenEpoch: 0 });
  const send = () => store.append(...messages([{ conv: `u:${ann}-${ann}`, sender: ann, text: name, mid: "naïve 😀" }]));
  expect((await send()).seqs).toEqual([1]);
  // A resend is known again.
  expect(await send()).toMatchObject({ seqs: [1], repeated: [[0, 1_000]] });
  expect((await store.credentials("id", ann))?.tokenEpoch).toBe(0);
});

test("what is read is read whole, and what is written is there for others at once", async () => {
  const ids: number[] = [];
  for (let i = 0; i < 25; i++) ids.push(await store.createUser(`user-${i}`, "hash"));
  const group = await store.createGroup(ids[0]!, "many", "");
  for (const id of ids.slice(1)) await store.joinGroup([id, 0, group], 1);
  const { conversations } = await store.append(...messages([{ conv: groupConv(group), sender: ids[0]!, text: "hi" }]));
  expect((await store.memberIds(conversations[0]!)).ids).toEqual(ids);
  const other = await openShared(mariadb.url);
  expect((await other.credentials("name", "user-24"))?.id).toBe(ids[24]);
  await other.close();
});

test("one instance's account does not see another one's connections, and takes nobody for dead by that", async () => {
  const url = new URL(mariadb.url);
  await mariadb.admin(
    `CREATE USER other@'%' IDENTIFIED BY 'secret'; GRANT ALL ON ${databaseOf(mariadb.url)}.* TO other@'%'`,
  );
  [url.username, url.password] = ["other", "secret"];
  const other = await openShared(url.href);
  await store.credentials("id", 1);
  // Else it finds nobody dead yet.
  const isSettled = async () => Number((await mariadb.admin("SHOW STATUS LIKE 'Uptime'"))[0]!.Value) >= 9;
  while (!(await isSettled())) await Bun.sleep(100);
  expect(await other.fenceIfDead(store.boot)).toBe(false);
  expect(store.leaseValid()).toBe(true);
  await other.close();
}, 30_000);
