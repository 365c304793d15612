// The commit log, and its cleaning. Reads what other boots have committed, and what this one does not know that it has,
// lane by lane in the order of the batches, so that no gap is skipped.
import type { Head } from "./db.ts";
import type { Boot } from "./mysql-boot.ts";
import { literal, type Result } from "./mysql-connection.ts";

/** Batches read per lane at once; if further behind, all heads are compared instead. */
const MAX_BATCHES = 5_000;
const LANES_PER_READ = 50;
const KEPT_MINUTES = 10;
const DELETED_AT_ONCE = 1_000;
const DELETED_IN_A_ROW = 50;

interface LaneState {
  boot: string;
  lane: number;
  batch: number;
}

export class CommitReader {
  /** The last batch read, by boot and lane; null before the first read. */
  private seen: Map<string, number> | null = null;
  /** Heads of this instance's batches whose callers had been told that it is unknown whether they are committed. */
  private late: Head[] = [];

  /** Adds heads to the result of the next read. */
  add(heads: Head[]): void {
    this.late.push(...heads);
  }

  /** A boot of this instance ends: batches it does not know to be committed are then read like those of others. */
  leave(boot: Boot): void {
    for (const [lane, { batch }] of boot.lanes.entries()) this.seen?.set(`${boot.name}/${lane}`, batch);
  }

  /** The first call, before any session begins, only notes where the lanes stand. */
  async read(own: Boot, deadline: number): Promise<{ heads: Head[]; all: boolean }> {
    const [found] = await own.query(["SELECT boot, lane, batch FROM lane WHERE lane >= 0"], deadline);
    const lanes = found!.rows
      .map(([boot, lane, batch]) => ({ boot, lane, batch }) as LaneState)
      .filter(({ boot, lane }) => boot !== own.name || own.lanes[lane]!.isUnsure);
    const { seen } = this;
    const seenOf = ({ boot, lane }: LaneState): number =>
      (boot === own.name ? own.lanes[lane]!.batch : seen?.get(`${boot}/${lane}`)) ?? 0;
    const after = new Map(lanes.map(({ boot, lane, batch }) => [`${boot}/${lane}`, batch]));
    if (seen === null) {
      this.seen = after;
      return { heads: [], all: false };
    }
    const newest = new Map<number, Head>();
    let all = false;
    const behind = lanes.filter((each) => each.batch > seenOf(each));
    for (let at = 0; at < behind.length; at += LANES_PER_READ) {
      const some = behind.slice(at, at + LANES_PER_READ);
      const wanted = some.map((each) => ({ ...each, from: seenOf(each) }));
      const near = wanted.filter(({ batch, from }) => batch - from <= MAX_BATCHES);
      if (near.length < wanted.length) all = true;
      if (near.length === 0) continue;
      const results = await own.query(near.map(selectBatches), deadline);
      for (const [i, { batch, from }] of near.entries()) if (!collect(results[i]!, batch - from, newest)) all = true;
    }
    const { late } = this;
    this.late = [];
    for (const head of late) keepNewest(newest, head);
    this.seen = after;
    return { heads: [...newest.values()], all };
  }
}

const selectBatches = ({ boot, lane, batch, from }: LaneState & { from: number }): string =>
  `SELECT heads FROM commit_log WHERE boot = ${literal(boot)} AND lane = ${lane} AND batch > ${from} AND batch <= ${batch}`;

/** False where rows are missing: they were deleted before they were read. */
function collect({ rows }: Result, count: number, newest: Map<number, Head>): boolean {
  for (const [heads] of rows) for (const head of JSON.parse(heads as string) as Head[]) keepNewest(newest, head);
  return rows.length === count;
}

function keepNewest(newest: Map<number, Head>, [conversation, conv, lastSeq, memberVersion]: Head): void {
  const known = newest.get(conversation);
  if (known === undefined) newest.set(conversation, [conversation, conv, lastSeq, memberVersion]);
  else {
    known[2] = Math.max(known[2], lastSeq);
    known[3] = Math.max(known[3], memberVersion);
  }
}

/** Deletes old rows, in small portions; to be called by one instance at a time. */
export async function cleanCommits(own: Boot, timeoutMs: number): Promise<void> {
  const query = (sql: string) => own.query([sql], performance.now() + timeoutMs);
  const old = `at < UTC_TIMESTAMP() - INTERVAL ${KEPT_MINUTES} MINUTE`;
  for (let i = 0; i < DELETED_IN_A_ROW; i++) {
    const [deleted] = await query(`DELETE FROM commit_log WHERE ${old} ORDER BY at LIMIT ${DELETED_AT_ONCE}`);
    if (deleted!.changes < DELETED_AT_ONCE) break;
  }
  // The lanes of boots that are gone, once their log is deleted too.
  await query("DELETE FROM lane WHERE fenced = 1 AND NOT EXISTS (SELECT 1 FROM commit_log c WHERE c.boot = lane.boot)");
  await query("DELETE FROM link WHERE boot NOT IN (SELECT boot FROM instance)");
}
