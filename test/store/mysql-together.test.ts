// Log-ins that come together are one transaction; none of them is held up by another one's device, refused or
// committed with another one's answer.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { ChatError, directConv, Errno } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import { type RunningMariadb, startMariadb, transactions } from "../services.ts";
import { messages, openShared, type SharedStore } from "./mysql-shared.ts";

const MANY = 50;

let mariadb: RunningMariadb;
let a: SharedStore;
let b: SharedStore;
/** Who have logged in before, on "phone". */
const users: number[] = [];

beforeAll(async () => {
  mariadb = await startMariadb();
  [a, b] = [await openShared(mariadb.url), await openShared(mariadb.url)];
  for (let i = 0; i < MANY; i++) users.push(await a.createUser(`together-${i}`, `hash-${i}`));
  await Promise.all(users.map((id) => a.openDevice(id, "phone", a.boot)));
}, 60_000);
afterAll(async () => {
  await Promise.all([a.close(), b.close()]);
  await mariadb.stop();
});

const open = (store: SharedStore, id: number, takeover = true, isWanted = () => true) =>
  store.openDevice(id, "phone", store.boot, takeover, [], isWanted).catch((error) => error as ChatError);
const errnoOf = (outcome: unknown) => (outcome instanceof ChatError ? outcome.errno : 0);
const rows = async () =>
  (await mariadb.admin(
    "SELECT id, user_id, epoch, CONVERT(boot USING utf8mb4) AS boot FROM chat.device ORDER BY user_id",
  )) as {
    id: number;
    user_id: number;
    epoch: number;
    boot: string;
  }[];
const commits = async () => Number((await mariadb.admin("SHOW GLOBAL STATUS LIKE 'Com_commit'"))[0]!.Value);

test("log-ins and ends of sessions that come together are committed together, each with its own outcome", async () => {
  const before = await rows();
  const startedAt = await commits();
  // The first of a turn goes with the rest of it.
  const ends = before.slice(0, 10).map(({ id, epoch }) => a.closeDevices([[id, epoch]]));
  const opened = await Promise.all(users.map((id) => open(a, id)));
  await Promise.all(ends);
  // The instances renew their leases meanwhile.
  expect((await commits()) - startedAt).toBeLessThan(10);
  const after = await rows();
  expect(after).toEqual(before.map((row) => ({ ...row, epoch: row.epoch + 1, boot: a.boot })));
  expect(opened).toEqual(after.map(({ id, epoch }) => ({ id, epoch, from: "" })));
});

test("one that is refused, and one that nobody waits for, leave the others theirs", async () => {
  const [c, d] = [users[3]!, users[4]!];
  await Promise.all([open(b, c), open(b, d)]);
  const before = await rows();
  const outcomes = await Promise.all(users.map((id, i) => open(a, id, id !== c, () => i !== 7)));
  expect(outcomes.map(errnoOf).flatMap((errno, i) => (errno === 0 ? [] : [[i, errno]]))).toEqual([
    [3, Errno.alreadyOnline],
    [7, Errno.unavailable],
  ]);
  expect(outcomes[4]).toMatchObject({ from: b.boot });
  const changed = (await rows()).map(({ epoch }, i) => epoch - before[i]!.epoch);
  expect(changed).toEqual(users.map((_, i) => (i === 3 || i === 7 ? 0 : 1)));
  expect((await rows())[3]!.boot).toBe(b.boot);
});

test("a device that somebody holds holds up its own log-in alone", async () => {
  const held = users[5]!;
  const holder = await mariadb.session("chat");
  await holder.run("START TRANSACTION");
  await holder.run(`SELECT * FROM device WHERE user_id = ${held} FOR UPDATE`);
  let late: unknown;
  const waiting = open(a, held).then((outcome) => {
    late = outcome;
  });
  const others = await Promise.all(users.filter((id) => id !== held).map((id) => open(a, id)));
  expect(others.map(errnoOf)).toEqual(others.map(() => 0));
  // Those that come later do not wait for it either.
  expect(await open(a, users[6]!)).toMatchObject({ from: "" });
  expect(late).toBeUndefined();
  holder.close();
  await waiting;
  expect(late).toMatchObject({ from: "" });
});

test("of several log-ins of one device at once each has an epoch of its own", async () => {
  const opened = await Promise.all(Array.from({ length: 5 }, () => open(a, users[9]!)));
  const epochs = opened.map((each) => (each as { epoch: number }).epoch).sort((p, q) => p - q);
  expect(epochs).toEqual(epochs.map((_, i) => epochs[0]! + i));
});

test("what is read together is each one's own", async () => {
  const [x, y, z] = [users[10]!, users[11]!, users[12]!];
  await a.addFriend([x, 0, y], "", 1);
  await a.addFriend([x, 0, z], "", 1);
  await a.addFriend([y, 0, z], "", 1);
  const group = await a.createGroup(y, "together", "");
  await a.joinGroup([z, 0, group], 1);
  await a.append(...messages([{ conv: directConv(y, z), sender: y, text: "hi" }]));
  const devices = new Map((await rows()).map(({ id, user_id }) => [user_id, id]));
  const read = async (id: number) =>
    Promise.all([
      a.credentials("id", id),
      a.credentials("name", `together-${users.indexOf(id)}`),
      a.friendsOf(id),
      a.listedBy(id),
      a.groupsOf(id),
      a.missingOf(id, devices.get(id)!),
      a.devicesOf([id, id], a.boot),
    ]);
  const together = await Promise.all([x, y, z, 999_999].map(read));
  const alone = [];
  for (const id of [x, y, z, 999_999]) alone.push(await read(id));
  expect(together).toEqual(alone);
  const [ofX, ofY, ofZ, ofNobody] = together.map(([byId, byName, friends, listed, groups, { offline }, online]) => [
    byId?.password === byName?.password ? byId?.password : "",
    friends.map(([id]) => id),
    listed,
    groups.groups.map(({ id, count }) => [id, count]),
    offline,
    online.map(({ userId }) => userId),
  ]);
  expect(ofX).toEqual(["hash-10", [y, z], [], [], 2, [x]]);
  expect(ofY).toEqual(["hash-11", [z], [x], [[group, 2]], 4, [y]]);
  expect(ofZ).toEqual(["hash-12", [], [x, y], [[group, 2]], 4, [z]]);
  expect(ofNobody).toEqual([undefined, [], [], [], 0, []]);
});

test("log-ins that were lost with their connection are told so, and the next ones are done", async () => {
  const holder = await mariadb.session("chat");
  // It stops the transaction at its first statement.
  await holder.run("START TRANSACTION");
  await holder.run(`SELECT * FROM lane WHERE boot = '${b.boot}' FOR UPDATE`);
  const outcomes = Promise.all(users.slice(0, 10).map((id) => open(b, id)));
  let waiting: number[] = [];
  await until(async () => {
    waiting = await transactions(mariadb, "trx_state = 'LOCK WAIT'");
    return waiting.length > 0;
  }, "the log-ins wait");
  for (const id of waiting) await mariadb.admin(`KILL ${id}`);
  holder.close();
  // Nothing was committed: they are done again.
  expect((await outcomes).map(errnoOf)).toEqual(Array(10).fill(0));
});
