// A lane where something fails: what a lost connection left at the database is asked for and ended, a fenced boot is told of,
// and a closed lane leaves no connection behind.
import { expect, test } from "bun:test";
import type { Head } from "../../src/db/db.ts";
import { LogIds } from "../../src/db/log-ids.ts";
import { ConnectionLost, DatabaseError, type MysqlConnection, type Result } from "../../src/db/mysql-connection.ts";
import { Fenced, Lane } from "../../src/db/mysql-lane.ts";
import type { Connector } from "../../src/db/mysql-pool.ts";
import type { MysqlTx } from "../../src/db/mysql-tx.ts";

const DONE: Result = { columns: [], rows: [], changes: 1, id: 0 };
const NOTHING: Result = { ...DONE, changes: 0 };
const WORK = "UPDATE something";
const lockWait = () => new DatabaseError("ER_LOCK_WAIT_TIMEOUT", 1205, "HY000", "waited");

/** What a connection answers to a statement; it may throw. */
type Answer = (sql: string, connection: Stand) => Result;

/** A connection, which is lost with a ConnectionLost that it answers. */
class Stand {
  lost: ConnectionLost | null = null;
  readonly sent: string[] = [];

  constructor(
    readonly id: number,
    private readonly answer: Answer,
  ) {}

  async query(statements: string[]): Promise<Result[]> {
    if (this.lost !== null) throw this.lost;
    try {
      return statements.map((sql) => {
        this.sent.push(sql);
        return this.answer(sql, this);
      });
    } catch (error) {
      if (error instanceof ConnectionLost) this.lost = error;
      throw error;
    }
  }

  destroy(): void {
    this.lost ??= new ConnectionLost("destroyed");
  }
}

function laneWith(answer: Answer) {
  const connections: Stand[] = [];
  const late: Head[] = [];
  const told = { fenced: 0 };
  const connector = {
    maxPacketBytes: 1_000_000,
    open: async () => {
      const stand = new Stand(connections.length + 1, answer);
      connections.push(stand);
      return stand as unknown as MysqlConnection;
    },
    isGood: ({ lost }: MysqlConnection) => lost === null,
  } as unknown as Connector;
  const options = {
    boot: "here",
    connector,
    ids: new LogIds(),
    register: async () => undefined,
    onFenced: () => told.fenced++,
    onLate: (heads: Head[]) => late.push(...heads),
  };
  const lane = new Lane(options, 1);
  const commit = () => lane.transact((tx: MysqlTx) => tx.run(WORK), performance.now() + 20_000);
  const sent = () => connections.flatMap((each) => each.sent.map((sql) => [each.id, sql] as const));
  return { lane, commit, connections, told, late, sent };
}

const killed = (sent: (readonly [number, string])[]) => sent.filter(([, sql]) => sql.startsWith("KILL"));
const times = (sent: (readonly [number, string])[], start: string) =>
  sent.filter(([, sql]) => sql.startsWith(start)).length;

for (const [fate, batch] of [
  ["is committed is not done again", 1],
  ["is not committed is done again", 0],
] as const)
  test(`what ${fate}, where the answer to its COMMIT was lost with the connection`, async () => {
    let lost = false;
    let waited = false;
    const { commit, sent, connections } = laneWith((sql, { id }) => {
      if (sql === "COMMIT" && !lost) {
        lost = true;
        throw new ConnectionLost("cut");
      }
      if (!sql.startsWith("SELECT batch FROM lane")) return DONE;
      // Its transaction holds the lane's row still.
      if (!waited) {
        waited = true;
        throw lockWait();
      }
      return { ...DONE, rows: [[id === 2 ? batch : -1]] };
    });
    await commit();
    expect(killed(sent())).toEqual([[2, "KILL 1"]]);
    expect(times(sent(), WORK)).toBe(batch === 1 ? 1 : 2);
    await commit();
    // What is settled is not asked for again; each batch has the next number.
    expect(times(sent(), "SELECT batch FROM lane")).toBe(2);
    expect(connections).toHaveLength(2);
    const numbers = sent().flatMap(([, sql]) => /^UPDATE lane SET batch = (\d+)/.exec(sql)?.[1] ?? []);
    expect(numbers).toEqual(batch === 1 ? ["1", "2"] : ["1", "1", "2"]);
    // It asks outside of any transaction, and waits for locks like before when it knows.
    const asked = connections[1]!.sent;
    expect(asked[0]).toBe("ROLLBACK");
    expect(asked.filter((sql) => sql.startsWith("SET SESSION innodb_lock_wait_timeout")).at(-1)).toEndWith("= 3");
  });

test("the transaction of a lost connection is ended where it holds locks; later its number is somebody else's", async () => {
  const failures: (() => Error)[] = [() => new ConnectionLost("cut"), lockWait];
  const { commit, sent } = laneWith((sql) => {
    const failure = sql === WORK ? failures.shift() : undefined;
    if (failure !== undefined) throw failure();
    return DONE;
  });
  await commit();
  expect(killed(sent())).toEqual([[2, "KILL 1"]]);
  expect(times(sent(), "ROLLBACK")).toBe(1);
  failures.push(lockWait);
  await commit();
  expect(killed(sent())).toHaveLength(1);
});

test("a boot that is fenced is told of, as the next batch begins and where it is asked what was committed", async () => {
  const opening = laneWith((sql) => (sql.startsWith("UPDATE lane") ? NOTHING : DONE));
  await expect(opening.commit()).rejects.toBeInstanceOf(Fenced);
  expect(opening.told.fenced).toBe(1);
  const asking = laneWith((sql, { id }) => {
    if (sql === "COMMIT" && id === 1) throw new ConnectionLost("cut");
    return sql.startsWith("SELECT batch FROM lane") ? NOTHING : DONE;
  });
  await expect(asking.commit()).rejects.toBeInstanceOf(Fenced);
  expect([asking.told.fenced, asking.lane.isUnsure]).toEqual([1, true]);
});

test("a lane that is closed has no connection any more, and makes none", async () => {
  const used = laneWith(() => DONE);
  await used.commit();
  used.lane.close();
  await expect(used.commit()).rejects.toBeInstanceOf(Fenced);
  // Closed while it is being connected.
  const connecting = laneWith(() => DONE);
  const failed = Promise.allSettled([connecting.commit()]);
  connecting.lane.close();
  expect((await failed)[0]).toMatchObject({ status: "rejected", reason: expect.any(Fenced) });
  for (const { connections, sent } of [used, connecting]) {
    expect(connections).toHaveLength(1);
    expect(connections[0]!.lost).not.toBeNull();
    expect(times(sent(), WORK)).toBe(sent().length > 0 ? 1 : 0);
  }
});
