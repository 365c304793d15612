// Every statement that a loaded server repeats reads through an index: what the store really sends is taken from the
// database's log and explained, on tables of some thousand rows.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { directConv, groupConv } from "../../src/protocol.ts";
import { type RunningMariadb, startMariadb } from "../services.ts";
import { messages, openShared, type SharedStore } from "./mysql-shared.ts";

const USERS = 5_000;
/** Tables that hold a few rows for each instance. */
const SMALL = new Set(["instance", "lane", "link"]);

let mariadb: RunningMariadb;
let store: SharedStore;
let other: SharedStore;
beforeAll(async () => {
  mariadb = await startMariadb();
  store = await openShared(mariadb.url);
  other = await openShared(mariadb.url);
  await mariadb.admin(`USE chat;
    INSERT INTO user (name, password) SELECT CONCAT('user-', seq), 'hash' FROM seq_1_to_${USERS};
    INSERT INTO friend SELECT seq, 1 + (seq * 7 + k) % ${USERS} FROM seq_1_to_${USERS} JOIN (SELECT 1 AS k UNION SELECT 2) AS two;
    INSERT INTO conversation (kind, lo, hi, last_seq) SELECT 0, seq, seq + 1, 4 FROM seq_1_to_${USERS};
    INSERT INTO chat_group (name, description) SELECT CONCAT('group-', seq), '' FROM seq_1_to_1000;
    INSERT INTO conversation (kind, lo, hi, last_seq) SELECT 1, seq, 0, 4 FROM seq_1_to_1000;
    INSERT INTO member SELECT c.id, s.seq * 97 % ${USERS} + 1, 'normal', 0, 0 FROM conversation c JOIN seq_1_to_10 s WHERE c.kind = 1;
    INSERT IGNORE INTO member SELECT id, lo, 'normal', 0, 0 FROM conversation WHERE kind = 1;
    INSERT INTO message SELECT c.id, s.seq, 1004, c.lo, 1, CONCAT('mid-', s.seq), c.id, 5, 'hello' FROM conversation c JOIN seq_1_to_4 s;
    INSERT INTO device (user_id, name, epoch, boot) SELECT seq, 'phone', 1, '${store.boot}' FROM seq_1_to_${USERS};
    INSERT INTO \`cursor\` SELECT d.id, c.id, 2 FROM device d JOIN conversation c ON c.kind = 0 AND c.lo = d.user_id;
    INSERT INTO commit_log SELECT 'gone', k, seq, UTC_TIMESTAMP(), '[]' FROM seq_1_to_2000 JOIN (SELECT 1 AS k UNION SELECT 2) AS two;
    ANALYZE TABLE user, friend, conversation, chat_group, member, message, device, \`cursor\`, commit_log;`);
}, 60_000);
afterAll(async () => {
  await Promise.all([store.close(), other.close()]);
  await mariadb.stop();
});

test("no statement of a loaded server scans a table", async () => {
  await store.readCommits();
  await mariadb.admin("SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; SET GLOBAL general_log = 1");
  const direct = Array.from({ length: 60 }, (_, i) => ({ conv: directConv(i + 1, i + 2), sender: i + 1, text: "hi" }));
  const first = direct.map((each, i) => ({ ...each, mid: `new-${i}` }));
  const grouped = Array.from({ length: 60 }, (_, i) => ({ conv: groupConv(i + 1), sender: i + 1, text: "hi" }));
  const { conversations } = await store.append(...messages([...first, ...grouped]));
  // Resends, new pairs and unknown ones.
  await store.append(
    ...messages([...first, ...direct.map((each, i) => ({ ...each, conv: directConv(i + 1, 4_000 + i) }))]),
  );
  await store.append(...messages([{ conv: directConv(1, 999_999), sender: 1, text: "?" }]));
  await other.append(...messages([...first, ...grouped]));
  const opened = await store.openDevice(7, "phone", store.boot, false);
  const missing = await store.missingOf(7, opened.id);
  await store.openDevice(8, "phone", store.boot, true);
  await store.openDevice(7, "new", store.boot);
  await store.backlog(
    [7, opened.id],
    missing.behind.map(([id]) => [id, null]),
    100,
    100_000,
  );
  await store.backlog(
    [1, 1],
    conversations.slice(0, 60).map((id) => [id, 1]),
    100,
    100_000,
  );
  await store.deliveredOf([7, opened.id], directConv(7, 8));
  await store.saveCursors(Array.from({ length: 50 }, (_, i) => [i + 1, 1, [[conversations[i]!, 3]]]));
  await store.addFriend([3, 1, 9], "hi", 1);
  await store.joinGroup([4_999, 1, 5], 1);
  await store.createGroup(1, "new", "");
  await store.credentials("name", "user-17");
  await store.credentials("id", 17);
  await store.createUser("new", "hash");
  await store.revokeTokens(17);
  await store.rehash(17, "hash", "hash2");
  await store.friendsOf(17);
  await store.listedBy(17);
  await store.groupsOf(98);
  await store.memberIds(conversations[60]!);
  await store.membersPage(1, 1, 0, 100);
  await store.devicesOf(
    Array.from({ length: 100 }, (_, i) => i + 1),
    other.boot,
  );
  await store.closeDevices([[opened.id, opened.epoch]]);
  // A storm of log-ins.
  const storm = Array.from({ length: 100 }, (_, i) => 20 + i);
  const entered = await Promise.all(storm.map((id) => store.openDevice(id, "phone", store.boot, true)));
  await Promise.all(
    storm.flatMap((id, i) => [
      store.credentials("id", id),
      store.friendsOf(id),
      store.listedBy(id),
      store.groupsOf(id),
      store.missingOf(id, entered[i]!.id),
    ]),
  );
  await store.closeDevices(entered.map(({ id, epoch }) => [id, epoch]));
  await store.replacedAmong(Array.from({ length: 100 }, (_, i) => [i + 1, 1]));
  await store.devicesAt([other.boot, "gone"]);
  await store.readPresenceChanges();
  await store.readCommits();
  await other.readCommits();
  await mariadb.admin("SET GLOBAL general_log = 0");

  const logged = await mariadb.admin(
    "SELECT DISTINCT CONVERT(argument USING utf8mb4) AS sql_text FROM mysql.general_log WHERE command_type = 'Query' AND user_host LIKE 'chat%'",
  );
  // A packet of several statements is logged as a whole too.
  const statements = [...new Set(logged.flatMap(({ sql_text }) => (sql_text as string).split(";\n")))]
    .map((sql) => sql.trim())
    .filter((sql) => /^(SELECT|UPDATE|DELETE|INSERT[\s\S]*SELECT)\b/.test(sql) && /\b(FROM|UPDATE)\b/.test(sql));
  const scans: string[] = [];
  const tables = new Set<string>();
  for (const sql of statements) {
    for (const { table, type, key, rows } of await mariadb.admin(`USE chat; EXPLAIN ${sql}`)) {
      const name = String(table);
      tables.add(name);
      // "const" rows and results that need no table have no type.
      if (type === null || SMALL.has(name) || name.startsWith("<")) continue;
      if (type === "ALL" || type === "index" || key === null)
        scans.push(`${type} of ${rows} rows of ${name}: ${sql.slice(0, 300)}`);
    }
  }
  expect(scans).toEqual([]);
  expect(statements.length).toBeGreaterThan(60);
  for (const table of ["conversation", "message", "device", "cursor", "commit_log", "friend", "member"])
    expect([...tables]).toContain(table);
}, 60_000);
