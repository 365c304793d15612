// One boot of this instance in the database: its connections, its lanes, and how operations run on them.
import { Errno } from "../protocol.ts";
import { type BatchPlan, type Head, type Operations, StoreError, type Writers } from "./db.ts";
import type { LogIds } from "./log-ids.ts";
import { type AnyPlan, BatchLane } from "./mysql-batches.ts";
import { literal, type MysqlConnection, type Result } from "./mysql-connection.ts";
import { isTransient, isUndone, pauseMs, undo } from "./mysql-errors.ts";
import { Fenced, Lane } from "./mysql-lane.ts";
import { registerLink } from "./mysql-links.ts";
import { type Connector, Pool } from "./mysql-pool.ts";
import { Gathering } from "./mysql-together.ts";
import { MysqlTx, type TxGuard } from "./mysql-tx.ts";

/** How long a renewed lease lets the others count a boot as alive. */
export const LEASE_S = 6;
/** The pseudo-lane in which a boot's transactions outside its lanes see whether it is fenced. */
const GATE = -1;
const MAX_ATTEMPTS = 5;

export interface BootOptions {
  address: string;
  lanes: number;
  connections: number;
  storeTimeoutMs: number;
  connector: Connector;
  ids: LogIds;
  operations: Operations;
  writers: Writers<AnyPlan>;
  onFenced(): void;
  onLate(heads: Head[]): void;
}

export class Boot {
  readonly name = crypto.randomUUID();
  readonly pool: Pool;
  readonly lanes: Lane[] = [];
  private readonly batchLanes: BatchLane<unknown, unknown>[] = [];
  /** Keyed by operation. */
  private readonly gatherings = new Map<string, Gathering>();
  private events: Promise<unknown> = Promise.resolve();
  private readonly gate: TxGuard;
  /** Connections registered in the database as this boot's, whether still open or not. */
  readonly linked = new Set<MysqlConnection>();

  constructor(private readonly options: BootOptions) {
    const { connector, ids, lanes, connections, operations, writers, onFenced, onLate } = options;
    const register = (connection: MysqlConnection) => this.register(connection);
    this.pool = new Pool(connector, connections, register);
    for (let lane = 0; lane <= lanes; lane++)
      this.lanes.push(new Lane({ boot: this.name, connector, ids, register, onFenced, onLate }, lane));
    const { batches } = writers;
    const append = operations[batches.operation]!;
    for (const lane of this.lanes.slice(1))
      this.batchLanes.push(new BatchLane(lane, batches, (tx, batch) => append(tx, ...batch), onLate));
    for (const together of writers.together) {
      const gathering = new Gathering(
        (calls) => this.transact((tx) => together.run(tx, calls), this.deadline()),
        ([name, args]) => this.transact((tx) => operations[name]!(tx, ...args), this.deadline()),
        together.atOnce,
      );
      for (const name of together.operations) this.gatherings.set(name, gathering);
    }
    this.gate = {
      opening: `SELECT 1 FROM lane WHERE boot = ${literal(this.name)} AND lane = ${GATE} AND fenced = 0 LOCK IN SHARE MODE`,
      check: ({ rows }: Result) => {
        if (rows.length === 0) throw new Fenced("this instance has lost its lease");
      },
      closing: null,
    };
  }

  /** Enters the boot in the database as alive. */
  async begin(deadline: number): Promise<void> {
    const boot = literal(this.name);
    const numbers = [GATE, ...this.lanes.keys()];
    const expires = `UTC_TIMESTAMP(6) + INTERVAL ${LEASE_S} SECOND`;
    const values = `${boot}, ${literal(this.options.address)}, ${expires}`;
    await this.query(
      [
        "START TRANSACTION",
        `INSERT IGNORE INTO lane (boot, lane) VALUES ${numbers.map((lane) => `(${boot}, ${lane})`)}`,
        `INSERT IGNORE INTO instance (boot, address, expires) VALUES (${values})`,
        "COMMIT",
      ],
      deadline,
    );
  }

  /** Opens the lanes' connections in advance: the pool might use up what the server allows before a lane needs one. */
  async connect(deadline: number): Promise<void> {
    await Promise.all(this.lanes.map((lane) => lane.connect(deadline)));
  }

  /** Takes the boot out; to be called when nothing is under way. Its lanes stay for those yet to read their log. */
  async leave(deadline: number): Promise<void> {
    const boot = literal(this.name);
    await this.query(
      [
        "START TRANSACTION",
        `DELETE FROM instance WHERE boot = ${boot}`,
        `UPDATE lane SET fenced = 1 WHERE boot = ${boot}`,
        `DELETE FROM link WHERE boot = ${boot}`,
        "COMMIT",
      ],
      deadline,
    );
  }

  /** Runs statements, which must be safe to repeat, as one packet: sent again if its connection or a lock is lost. */
  async query(statements: string[], deadline: number): Promise<Result[]> {
    for (;;) {
      try {
        return await this.pool.use(deadline, (connection) => send(connection, statements, deadline));
      } catch (error) {
        if (!isTransient(error) || performance.now() >= deadline) throw error;
        await Bun.sleep(pauseMs(error));
      }
    }
  }

  /** Ends all of its connections, and with them what is under way. */
  discard(): void {
    for (const lane of this.lanes) lane.close();
    this.pool.close();
  }

  /** Runs an operation. Rejects with its ChatError, or with StoreError. */
  run(name: string, args: unknown[]): Promise<unknown> {
    const { operations, writers, storeTimeoutMs } = this.options;
    if (name === writers.batches.operation) return this.append(args);
    const gathering = this.gatherings.get(name);
    if (gathering !== undefined) return gathering.add([name, args]);
    const work = (tx: MysqlTx) => operations[name]!(tx, ...args);
    const deadline = this.deadline();
    if (!writers.events.includes(name)) return this.transact(work, deadline);
    const done = this.events.then(() => {
      if (performance.now() >= deadline) throw new StoreError(`not done within ${storeTimeoutMs} ms`);
      return this.lanes[0]!.transact(work, deadline);
    });
    this.events = done.catch(() => undefined);
    return done;
  }

  /** Splits a batch among the lanes: rows of one conversation always go to the same lane. */
  private async append(batch: unknown[]): Promise<unknown> {
    const plan: BatchPlan<unknown[], unknown, unknown, unknown> = this.options.writers.batches;
    const rows = plan.rowsOf(batch);
    const shares = this.batchLanes.map(() => [] as number[]);
    for (const [i, row] of rows.entries()) shares[hash(plan.keyOf(row)) % shares.length]!.push(i);
    const used = shares.map((indexes, lane) => ({ indexes, lane })).filter(({ indexes }) => indexes.length > 0);
    const parts = await Promise.allSettled(
      used.map(({ indexes, lane }) =>
        this.batchLanes[lane]!.add(
          indexes.map((i) => rows[i]),
          this.options.storeTimeoutMs,
        ),
      ),
    );
    const outcomes: unknown[] = Array(rows.length);
    for (const [k, { indexes }] of used.entries()) {
      const part = parts[k]!;
      if (part.status === "rejected" && parts.every(({ status }) => status === "rejected")) throw part.reason;
      for (const [at, i] of indexes.entries())
        outcomes[i] = part.status === "fulfilled" ? part.value[at] : plan.refuse(rows[i], Errno.unavailable, NOT_KNOWN);
    }
    return plan.resultOf(outcomes);
  }

  /** Runs an operation that appends to no log. If its COMMIT's answer is lost, it rejects: it may have taken effect. */
  private async transact<T>(work: (tx: MysqlTx) => Promise<T>, deadline: number): Promise<T> {
    const { ids, connector } = this.options;
    let careful = false;
    for (let attempt = 1; ; attempt++) {
      let sent = false;
      try {
        return await this.pool.use(deadline, async (connection) => {
          const { maxPacketBytes } = connector;
          const tx = new MysqlTx({ connection, guard: this.gate, ids, maxPacketBytes, deadline, careful });
          try {
            const value = await work(tx);
            await tx.commit(() => {
              sent = true;
            });
            return value;
          } catch (error) {
            await undo(tx);
            throw error;
          }
        });
      } catch (error) {
        if (error instanceof Fenced) this.options.onFenced();
        if (sent && !isUndone(error)) throw error;
        if (!isTransient(error) || attempt >= MAX_ATTEMPTS || performance.now() >= deadline) throw error;
        careful = true;
        await Bun.sleep(pauseMs(error));
      }
    }
  }

  private deadline(): number {
    return performance.now() + this.options.storeTimeoutMs;
  }

  /** Registers a connection, so that whoever finds this boot dead can end it. */
  register(connection: MysqlConnection): Promise<void> {
    this.linked.add(connection);
    return registerLink(connection, this.name);
  }
}

/** Ends the connection if a statement fails: its transaction must not stay open. */
async function send(connection: MysqlConnection, statements: string[], deadline: number): Promise<Result[]> {
  try {
    return await connection.query(statements, deadline - performance.now());
  } catch (error) {
    connection.destroy();
    throw error;
  }
}

const NOT_KNOWN = "the message may not have been stored: send it again with the same mid";

/** FNV-1a with its high bits folded in: the lowest bit alone is a mere parity, which would fill lanes unevenly. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return (value ^ (value >>> 15)) >>> 0;
}
