// What is read of the commit log: of others what is new, of one's own what one does not know that one has; with tables of the
// test's own.
import { expect, test } from "bun:test";
import type { Head } from "../../src/db/db.ts";
import type { Boot } from "../../src/db/mysql-boot.ts";
import { CommitReader } from "../../src/db/mysql-commits.ts";
import type { Result } from "../../src/db/mysql-connection.ts";

const resultOf = (rows: Result["rows"]): Result => ({ columns: [], rows, changes: 0, id: 0 });
const head = (id: number, seq = 1, members = 0): Head => [id, `g:${id}`, seq, members];

/** The log, as far as a reader knows it, and a boot "own" that reads it. */
function begin() {
  /** By boot and lane; the index is the batch's number. */
  const log = new Map<string, Head[][]>();
  /** How many statements each packet had. */
  const packets: number[] = [];
  const answer = (sql: string): Result => {
    if (sql.startsWith("SELECT boot")) {
      const lanes = [...log].map(([key, batches]) => [...key.split("/"), batches.length - 1]);
      return resultOf(lanes.map(([boot, lane, batch]) => [boot!, Number(lane), batch!]));
    }
    const [, boot, lane, from, to] = /boot = '(.*)' AND lane = (.*) AND batch > (.*) AND batch <= (.*)$/.exec(sql)!;
    const batches = log.get(`${boot}/${lane}`)!.slice(Number(from) + 1, Number(to) + 1);
    return resultOf(batches.map((heads) => [JSON.stringify(heads)]));
  };
  const query = async (statements: string[]) => {
    packets.push(statements.length);
    return statements.map(answer);
  };
  const boot = (name: string) => {
    const lanes = [0, 1].map(() => ({ batch: 0, isUnsure: false }));
    return { name, lanes, boot: { name, lanes, query } as unknown as Boot };
  };
  const commit = (key: string, ...heads: Head[]) => {
    const batches = log.get(key) ?? [[]];
    log.set(key, [...batches, heads]);
  };
  const reader = new CommitReader();
  const own = boot("own");
  const read = async (as = own.boot) => {
    const { heads, all } = await reader.read(as, 0);
    return [heads.sort((a, b) => a[0] - b[0]), all];
  };
  return { log, packets, commit, reader, own, boot, read };
}

test("what was committed before the first read is not news; each batch after it is, once, from its lane's first on", async () => {
  const { commit, read } = begin();
  commit("other/0", head(1));
  expect(await read()).toEqual([[], false]);
  commit("other/0", head(1, 2));
  commit("new/1", head(2));
  expect(await read()).toEqual([[head(1, 2), head(2)], false]);
  expect(await read()).toEqual([[], false]);
});

test("a conversation's head is the newest of all that are read, in whatever order", async () => {
  const { commit, reader, read } = begin();
  await read();
  commit("a/0", head(1, 5, 1), head(2, 3, 3));
  commit("a/1", head(1, 4, 2), head(2, 4, 2));
  expect(await read()).toEqual([[head(1, 5, 2), head(2, 4, 3)], false]);
  // Of this instance's own, too.
  reader.add([head(3, 2, 0)]);
  reader.add([head(3, 1, 0)]);
  expect(await read()).toEqual([[head(3, 2, 0)], false]);
  expect(await read()).toEqual([[], false]);
});

test("of its own batches those are read that it does not know to be committed, also when their boot has ended", async () => {
  const { commit, own, boot, reader, read } = begin();
  await read();
  for (const id of [1, 2, 3, 4]) commit(`own/${id % 2}`, head(id));
  own.lanes[0]!.batch = own.lanes[1]!.batch = 1;
  // Its answer is under way.
  expect(await read()).toEqual([[], false]);
  own.lanes[1]!.isUnsure = true;
  expect(await read()).toEqual([[head(3)], false]);
  reader.leave(own.boot);
  const next = boot("next").boot;
  expect(await read(next)).toEqual([[head(3), head(4)], false]);
  expect(await read(next)).toEqual([[], false]);
});

test("very many lanes are read in portions, and each whole", async () => {
  const { commit, packets, read } = begin();
  await read();
  const ids = Array.from({ length: 120 }, (_, i) => i);
  for (const id of ids) commit(`other-${id}/0`, head(id));
  packets.length = 0;
  expect(await read()).toEqual([ids.map((id) => head(id)), false]);
  expect(await read()).toEqual([[], false]);
  expect(packets).toEqual([1, 50, 50, 20, 1]);
});

test("where a lane is too far ahead all heads have to be compared, and the next read goes on from there", async () => {
  const { log, commit, packets, read } = begin();
  await read();
  log.set("far/0", Array(5_002).fill([head(1)]));
  packets.length = 0;
  expect(await read()).toEqual([[], true]);
  expect(packets).toEqual([1]);
  log.set("far/0", Array(5_002 + 5_000).fill([head(1)]));
  commit("near/0", head(2));
  expect(await read()).toEqual([[head(1), head(2)], false]);
});
