// Group commit in a lane: parts of batches that have gathered while the lane was busy become one transaction.
import { Errno } from "../protocol.ts";
import { type BatchPlan, type Head, StoreError } from "./db.ts";
import { isDataError } from "./mysql-errors.ts";
import type { Lane } from "./mysql-lane.ts";
import type { MysqlTx } from "./mysql-tx.ts";

const BATCH_ROWS = 1_000;
const BATCH_TEXT = 1024 * 1024;

/** The rows of one call that belong to one lane. */
interface Part<Row, Outcome> {
  rows: Row[];
  outcomes: (Outcome | undefined)[];
  /** How many rows have no outcome yet. */
  left: number;
  /** Why none of its rows has been stored so far; null where one has, or none is decided yet. */
  failure: Error | null;
  deadline: number;
  /** Its caller has been answered. */
  settled: boolean;
  resolve(outcomes: Outcome[]): void;
  reject(error: Error): void;
}

interface Item<Row, Outcome> {
  part: Part<Row, Outcome>;
  index: number;
}

// biome-ignore lint/suspicious/noExplicitAny: the rows and outcomes are the model's
export type AnyPlan = BatchPlan<any, any, any, any>;

export class BatchLane<Row, Outcome> {
  private parts: Part<Row, Outcome>[] = [];
  private working = false;

  constructor(
    private readonly lane: Lane,
    private readonly plan: AnyPlan,
    /** The operation, on a batch in the plan's form. */
    private readonly run: (tx: MysqlTx, batch: unknown[]) => Promise<unknown>,
    private readonly onLate: (heads: Head[]) => void,
  ) {}

  /** Stores rows; a refusal is the outcome of its row. Rejects with StoreError where no row is known to be stored. */
  add(rows: Row[], timeoutMs: number): Promise<Outcome[]> {
    const { promise, resolve, reject } = Promise.withResolvers<Outcome[]>();
    const deadline = performance.now() + timeoutMs;
    const late = setTimeout(() => settle(), timeoutMs);
    const part: Part<Row, Outcome> = {
      rows,
      outcomes: Array(rows.length).fill(undefined),
      left: rows.length,
      failure: null,
      deadline,
      settled: false,
      resolve: (outcomes) => settle(outcomes),
      reject: (error) => settle(undefined, error),
    };
    const settle = (outcomes?: Outcome[], error?: Error) => {
      if (part.settled) return;
      part.settled = true;
      clearTimeout(late);
      if (outcomes !== undefined) resolve(outcomes);
      else reject(error ?? new StoreError(`not stored within ${timeoutMs} ms`));
    };
    this.parts.push(part);
    if (!this.working) this.work();
    return promise;
  }

  private async work(): Promise<void> {
    this.working = true;
    // What arrives in this turn of the loop belongs together.
    await Promise.resolve();
    while (this.parts.length > 0) {
      const items = this.take();
      if (items.length > 0) await this.store(items);
    }
    this.working = false;
  }

  private take(): Item<Row, Outcome>[] {
    const items: Item<Row, Outcome>[] = [];
    let text = 0;
    let taken = 0;
    for (const part of this.parts) {
      const size = part.rows.reduce((sum, row) => sum + this.plan.sizeOf(row), 0);
      if (items.length > 0 && (items.length + part.rows.length > BATCH_ROWS || text + size > BATCH_TEXT)) break;
      taken++;
      text += size;
      if (!part.settled) for (let index = 0; index < part.rows.length; index++) items.push({ part, index });
    }
    this.parts.splice(0, taken);
    return items;
  }

  /** Stores the items in one transaction; if one of them is at fault, in halves, until that one stands alone. */
  private async store(items: Item<Row, Outcome>[]): Promise<void> {
    let wanted = items;
    let tx: MysqlTx | undefined;
    try {
      const result = await this.lane.transact(
        (next) => {
          tx = next;
          // Rows whose caller has already been told that their fate is unknown are not tried again.
          wanted = items.filter(({ part }) => !part.settled);
          return this.run(next, this.plan.batchOf(wanted.map(({ part, index }) => part.rows[index]!)));
        },
        Math.max(...items.map(({ part }) => part.deadline)),
      );
      if (wanted.some(({ part }) => part.settled)) this.onLate(tx!.log.heads());
      const outcomes: Outcome[] = this.plan.outcomesOf(result);
      for (const [i, item] of wanted.entries()) this.give(item, outcomes[i]!, null);
    } catch (error) {
      if (!isDataError(error)) for (const item of items) this.give(item, this.refusal(item), error as Error);
      else if (wanted.length === 1) this.give(wanted[0]!, this.refusal(wanted[0]!, Errno.tooLarge), null);
      else {
        const half = wanted.length >> 1;
        await this.store(wanted.slice(0, half));
        await this.store(wanted.slice(half));
      }
    }
  }

  private refusal({ part, index }: Item<Row, Outcome>, errno: number = Errno.unavailable): Outcome {
    const errmsg =
      errno === Errno.tooLarge ? "msg: the database cannot store it" : "the message may not have been stored";
    return this.plan.refuse(part.rows[index]!, errno, errmsg);
  }

  /** `failure`: why `outcome` is a mere refusal, which counts only if other rows of the part are stored. */
  private give({ part, index }: Item<Row, Outcome>, outcome: Outcome, failure: Error | null): void {
    part.outcomes[index] = outcome;
    if (failure === null) part.failure = null;
    else if (part.left === part.rows.length) part.failure = failure;
    if (--part.left > 0) return;
    if (part.failure === null) part.resolve(part.outcomes as Outcome[]);
    else part.reject(part.failure);
  }
}
