// The store that several instances share, on MySQL or MariaDB. Conflicts between them are decided by the database's row
// locks; what each of them may still do, by its lease.
import { type Head, type Operations, type Shared, type Store, StoreError, type Writers } from "./db.ts";
import { LogIds } from "./log-ids.ts";
import type { AnyPlan } from "./mysql-batches.ts";
import { Boot, type BootOptions } from "./mysql-boot.ts";
import { CommitReader } from "./mysql-commits.ts";
import { MysqlConnection, type MysqlTarget } from "./mysql-connection.ts";
import { Lease } from "./mysql-lease.ts";
import { migrate } from "./mysql-migrate.ts";
import { Connector } from "./mysql-pool.ts";
import { describe, findUndurable, prepare, startErrorOf } from "./mysql-start.ts";
import { fence, readPresenceChanges } from "./mysql-survivor.ts";
import { Watch } from "./mysql-watch.ts";

export interface MysqlOptions {
  target: MysqlTarget;
  /** Where clients reach this instance: only for people who look at the table of instances. */
  address: string;
  /** Concurrent transactions that append messages. */
  lanes?: number;
  /** Connections for everything else. */
  connections?: number;
  /** Time limit of a call; after that it rejects. */
  storeTimeoutMs?: number;
  log: { warn(line: string): void; info(line: string): void };
}

const START_TIMEOUT_MS = 5_000;

/** Opens the database as a new boot, bringing its schema up to date. Throws StartError. */
export async function openMysqlStore<O extends Operations>(
  options: MysqlOptions,
  operations: O,
  writers: Writers<AnyPlan>,
): Promise<Store<O> & Shared> {
  const { target } = options;
  try {
    await openDatabase(target, options.log);
    const store = new MysqlStore(options, operations, writers);
    await store.begin();
    const calls = Object.keys(operations).map((name) => [name, (...args: unknown[]) => store.call(name, args)]);
    return Object.assign(store as Shared & { close(): Promise<void> }, Object.fromEntries(calls)) as Store<O> & Shared;
  } catch (error) {
    throw startErrorOf(error, target);
  }
}

async function openDatabase(target: MysqlTarget, log: MysqlOptions["log"]): Promise<void> {
  const connection = await MysqlConnection.open(target, START_TIMEOUT_MS);
  try {
    const { version } = await prepare(connection, START_TIMEOUT_MS);
    await migrate(connection, target);
    const undurable = await findUndurable(connection, START_TIMEOUT_MS);
    if (undurable !== null)
      log.warn(
        `the database at ${describe(target)} (${version}) may lose acknowledged messages in a crash: ${undurable}`,
      );
  } finally {
    connection.destroy();
  }
}

class MysqlStore implements Shared {
  private readonly bootOptions: Omit<BootOptions, "onFenced">;
  private readonly storeTimeoutMs: number;
  private readonly commits = new CommitReader();
  private current: Boot | null = null;
  private lease: Lease | null = null;
  private lastBoot = "";
  /** By the database's clock. */
  private presenceReadAt = "";
  private closed = false;
  private readonly pending = new Set<Promise<unknown>>();
  private readonly lostCallbacks: (() => void)[] = [];
  private readonly regainedCallbacks: (() => void)[] = [];
  private readonly deadCallbacks: ((boots: string[]) => void)[] = [];
  private readonly watch: Watch;

  constructor(options: MysqlOptions, operations: Operations, writers: Writers<AnyPlan>) {
    const { target, address, lanes = 2, connections = 8, storeTimeoutMs = 5_000, log } = options;
    this.storeTimeoutMs = storeTimeoutMs;
    this.watch = new Watch(storeTimeoutMs, (boots) => {
      for (const callback of this.deadCallbacks) callback(boots);
    });
    const connector = new Connector(target, log);
    const onLate = (heads: Head[]) => this.commits.add(heads);
    const ids = new LogIds();
    this.bootOptions = { address, lanes, connections, storeTimeoutMs, connector, ids, operations, writers, onLate };
  }

  /** Begins a boot, which reads the commit log from here on. */
  async begin(): Promise<void> {
    try {
      await this.restart();
      // If too few connections are allowed, that shows now: not with every message, nor when others find the lease expired.
      const deadline = this.deadline();
      await Promise.all([this.requireBoot().connect(deadline), this.lease?.connect(deadline)]);
      await this.readCommits();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  get boot(): string {
    return this.lastBoot;
  }

  leaseValid(): boolean {
    return this.lease?.valid() ?? false;
  }

  onLost(callback: () => void): void {
    this.lostCallbacks.push(callback);
  }

  onRegained(callback: () => void): void {
    this.regainedCallbacks.push(callback);
  }

  onDead(callback: (boots: string[]) => void): void {
    this.deadCallbacks.push(callback);
  }

  call(name: string, args: unknown[]): Promise<unknown> {
    return this.track(() => this.requireBoot().run(name, args));
  }

  async restart(): Promise<void> {
    if (this.closed) throw new StoreError("the store is closed");
    const old = this.lastBoot;
    this.end();
    const boot = new Boot({ ...this.bootOptions, onFenced: () => this.lose(boot) });
    const deadline = this.deadline();
    const beganAt = performance.now();
    try {
      await boot.begin(deadline);
      if (old !== "") await fence(boot, old, true, deadline);
      if (this.closed) throw new StoreError("the store is closed");
    } catch (error) {
      boot.discard();
      throw error;
    }
    this.current = boot;
    this.lastBoot = boot.name;
    this.lease = new Lease(this.bootOptions.connector, boot, beganAt, {
      onLost: () => this.lose(boot),
      onRegained: () => {
        for (const callback of this.regainedCallbacks) callback();
      },
    });
    this.watch.start(boot, this.lease);
  }

  fenceIfDead(boot: string): Promise<boolean> {
    return this.track(() => this.watch.fenceIfDead(this.requireBoot(), boot));
  }

  otherBoots(): string[] {
    return [...this.watch.otherBoots];
  }

  readCommits(): Promise<{ heads: Head[]; all: boolean }> {
    return this.track(() => this.commits.read(this.requireBoot(), this.deadline()));
  }

  readPresenceChanges(): Promise<number[]> {
    return this.track(async () => {
      const { users, at } = await readPresenceChanges(this.requireBoot(), this.presenceReadAt, this.deadline());
      this.presenceReadAt = at;
      return users;
    });
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await Promise.allSettled(this.pending);
    await this.current?.leave(this.deadline()).catch(() => undefined);
    this.end();
  }

  private requireBoot(): Boot {
    if (this.current === null) throw new StoreError("this instance has lost its lease");
    return this.current;
  }

  private async track<T>(work: () => Promise<T>): Promise<T> {
    if (this.closed) throw new StoreError("the store is closed");
    const call = work();
    this.pending.add(call);
    try {
      return await call;
    } finally {
      this.pending.delete(call);
    }
  }

  private deadline(): number {
    return performance.now() + this.storeTimeoutMs;
  }

  /** Ends the current boot here; in the database it may live on. */
  private end(): void {
    this.watch.stop();
    this.lease?.stop();
    if (this.current !== null) {
      this.commits.leave(this.current);
      this.current.discard();
    }
    this.current = null;
  }

  private lose(boot: Boot): void {
    if (this.current !== boot || this.closed) return;
    this.end();
    for (const callback of this.lostCallbacks) callback();
  }
}
