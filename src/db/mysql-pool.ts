// Connections to MySQL: remade with growing pauses while the database is away, and bounded in number.
import { StoreError } from "./db.ts";
import { ConnectionLost, DatabaseError, MysqlConnection, type MysqlTarget } from "./mysql-connection.ts";
import { describe, prepare } from "./mysql-start.ts";

const CONNECT_TIMEOUT_MS = 2_000;
/** With less time left no connection is attempted: its failure would prove nothing, and delay the others. */
const MIN_CONNECT_MS = 50;
const FIRST_PAUSE_MS = 25;
const MAX_PAUSE_MS = 1_000;
/** How many callers may wait for a connection. */
const MAX_WAITING = 10_000;

/** Opens connections; after a failure all wait for the same pause. */
export class Connector {
  private pauseMs = 0;
  private retryAt = 0;
  private outageLogged = false;
  private silentSince = Number.NEGATIVE_INFINITY;
  /** The most bytes one packet may have. */
  maxPacketBytes = 1024 * 1024;

  constructor(
    private readonly target: MysqlTarget,
    private readonly log: { warn(line: string): void; info(line: string): void },
  ) {}

  /** Opens a connection and sets it up, trying until `deadline` (performance.now()). Rejects with StoreError. */
  async open(deadline: number, setUp: (connection: MysqlConnection) => Promise<void>): Promise<MysqlConnection> {
    let last: Error = new ConnectionLost("the database is unreachable");
    for (;;) {
      const now = performance.now();
      const start = Math.max(now, this.retryAt);
      if (start + MIN_CONNECT_MS >= deadline) throw Object.assign(new ConnectionLost(last.message), { cause: last });
      if (start > now) {
        await Bun.sleep(start - now);
        continue;
      }
      try {
        return await this.tryOpen(Math.min(CONNECT_TIMEOUT_MS, deadline - now), setUp);
      } catch (error) {
        if (!(error instanceof ConnectionLost || error instanceof DatabaseError)) throw error;
        last = error;
        this.fail(last.message);
      }
    }
  }

  /**
   * Whether a connection may still be used. If one has fallen silent others may be dead too: those not heard since then
   * are given up, so that not each of them costs some caller the whole time limit.
   */
  isGood(connection: MysqlConnection): boolean {
    if (connection.lost === null && connection.heardAt < this.silentSince)
      connection.destroy("the database has fallen silent");
    return connection.lost === null;
  }

  private async tryOpen(
    timeoutMs: number,
    setUp: (connection: MysqlConnection) => Promise<void>,
  ): Promise<MysqlConnection> {
    const connection = await MysqlConnection.open(this.target, timeoutMs);
    connection.onSilent = (since) => {
      this.silentSince = Math.max(this.silentSince, since);
    };
    try {
      this.maxPacketBytes = (await prepare(connection, timeoutMs)).maxPacketBytes;
      await setUp(connection);
    } catch (error) {
      connection.destroy();
      throw error;
    }
    this.pauseMs = 0;
    if (this.outageLogged) this.log.info(`the database at ${describe(this.target)} gives connections again`);
    this.outageLogged = false;
    return connection;
  }

  /** Sets the next pause, with jitter, so that instances do not all come back at once. */
  private fail(cause: string): void {
    this.pauseMs = Math.min(MAX_PAUSE_MS, Math.max(FIRST_PAUSE_MS, this.pauseMs * 2));
    this.retryAt = performance.now() + this.pauseMs * (0.5 + Math.random() / 2);
    if (!this.outageLogged) this.log.warn(`the database at ${describe(this.target)} gives no connection: ${cause}`);
    this.outageLogged = true;
  }
}

interface Waiter {
  deadline: number;
  resolve(connection: MysqlConnection): void;
  reject(error: Error): void;
}

/** At most `size` connections, each used by one caller at a time. */
export class Pool {
  private readonly idle: MysqlConnection[] = [];
  private readonly waiting: Waiter[] = [];
  private readonly used = new Set<MysqlConnection>();
  /** Of all connections, with those that are being made. */
  private count = 0;
  private closed: StoreError | null = null;

  constructor(
    private readonly connector: Connector,
    private readonly size: number,
    private readonly setUp: (connection: MysqlConnection) => Promise<void>,
  ) {}

  /** Runs `work` with a connection. Rejects with StoreError where none is free or can be made before `deadline`. */
  async use<T>(deadline: number, work: (connection: MysqlConnection) => Promise<T>): Promise<T> {
    const connection = await this.take(deadline);
    this.used.add(connection);
    try {
      return await work(connection);
    } finally {
      this.used.delete(connection);
      this.give(connection);
    }
  }

  /** Ends all connections, including those in use. */
  close(): void {
    this.closed = new StoreError("the store is closed");
    for (const connection of this.idle.splice(0)) connection.close();
    for (const connection of this.used) connection.destroy();
    for (const { reject } of [...this.waiting]) reject(this.closed);
  }

  private async take(deadline: number): Promise<MysqlConnection> {
    for (;;) {
      if (this.closed !== null) throw this.closed;
      const connection = this.idle.pop() ?? (await this.wait(deadline));
      if (this.connector.isGood(connection)) return connection;
      this.shrink();
    }
  }

  /** Waits for a new connection, if there may be more, or for one that becomes free: the server might allow no more. */
  private wait(deadline: number): Promise<MysqlConnection> {
    if (this.waiting.length >= MAX_WAITING) throw new StoreError("too many requests are waiting for the database");
    const { promise, resolve, reject } = Promise.withResolvers<MysqlConnection>();
    const leave = () => {
      clearTimeout(late);
      const at = this.waiting.indexOf(waiter);
      if (at >= 0) this.waiting.splice(at, 1);
    };
    const waiter: Waiter = {
      deadline,
      resolve: (connection) => {
        leave();
        resolve(connection);
      },
      reject: (error) => {
        leave();
        reject(error);
      },
    };
    const leftMs = Math.max(0, deadline - performance.now());
    const late = setTimeout(waiter.reject, leftMs, new StoreError("no connection to the database was free in time"));
    this.waiting.push(waiter);
    if (this.count < this.size) this.grow(waiter);
    return promise;
  }

  private grow({ deadline, reject }: Waiter): void {
    this.count++;
    this.connector.open(deadline, this.setUp).then(
      (made) => this.give(made),
      (error) => {
        reject(error);
        this.shrink();
      },
    );
  }

  /** A connection is gone: another one may be made for who waits. */
  private shrink(): void {
    this.count--;
    const [next] = this.waiting;
    if (next !== undefined) this.grow(next);
  }

  private give(connection: MysqlConnection): void {
    if (this.closed !== null) return connection.close();
    if (connection.lost !== null) return this.shrink();
    const [next] = this.waiting;
    if (next === undefined) this.idle.push(connection);
    else next.resolve(connection);
  }
}
