// A boot's lease: confirmed every 2 s on a connection of its own, so that nothing delays it. That connection is remade
// as soon as it is lost: a boot without any counts as ended. Even an expired lease may still be confirmed, as long as
// nobody has taken the boot over, which deletes its row and fences its lanes in one transaction.
import { type Boot, LEASE_S } from "./mysql-boot.ts";
import { literal, type MysqlConnection } from "./mysql-connection.ts";
import type { Connector } from "./mysql-pool.ts";

const RENEW_EVERY_MS = 2_000;
const RETRY_MS = 250;
const RENEW_TIMEOUT_MS = 2_000;
/** Allows for machines' clocks running at different speeds, and for the time an action takes. */
const MARGIN_MS = 500;
/** If confirmations are further apart than this, the database was away meanwhile, perhaps for everybody. */
const STEADY_MS = RENEW_EVERY_MS + 1_000;

export interface LeaseEvents {
  /** Others have taken the boot over. Called once, at the end. */
  onLost(): void;
  /** The lease is valid again after a time in which it was not: the boot is not fenced. */
  onRegained(): void;
}

export class Lease {
  private connection: MysqlConnection | null = null;
  private opening: Promise<MysqlConnection> | null = null;
  private timer: Timer | undefined;
  private stopped = false;
  private renewing = false;
  private confirmedAt: number;
  /** Since when confirmations have followed each other without delay, performance.now(). */
  private steadySince: number;
  /** A confirmation has been late. */
  private hasBeenLate = false;

  /** `beganAt`: performance.now() before the boot was entered in the database. */
  constructor(
    private readonly connector: Connector,
    private readonly boot: Boot,
    beganAt: number,
    private readonly events: LeaseEvents,
  ) {
    this.confirmedAt = this.steadySince = beganAt;
    // At once, to make the connection.
    this.renew();
  }

  valid(): boolean {
    return !this.stopped && performance.now() - this.confirmedAt < LEASE_S * 1_000 - MARGIN_MS;
  }

  /**
   * Whether another boot's expired lease proves that boot dead: the database has been available for long enough that it
   * would have renewed its lease. After an outage all leases have expired.
   */
  get provesOthersDead(): boolean {
    return this.isSteady && performance.now() - this.steadySince >= LEASE_S * 1_000;
  }

  /** Whether the boot is just back from an outage: others may not have found their way back to the database yet. */
  get isRecovering(): boolean {
    return (this.hasBeenLate || !this.isSteady) && !this.provesOthersDead;
  }

  /** Whether confirmations are on time at present. */
  private get isSteady(): boolean {
    return !this.stopped && performance.now() - this.confirmedAt <= STEADY_MS;
  }

  /** Waits for the lease's connection. Rejects with StoreError if it cannot be made in time. */
  async connect(deadline: number): Promise<MysqlConnection> {
    if (this.connection !== null && this.connection.lost === null) return this.connection;
    this.opening ??= this.open(deadline).finally(() => {
      this.opening = null;
    });
    return this.opening;
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.connection?.destroy();
  }

  /** Renews the lease, even a late one, as long as nobody has taken the boot over. */
  private async renew(): Promise<void> {
    if (this.renewing) return;
    this.renewing = true;
    clearTimeout(this.timer);
    const startedAt = performance.now();
    let pauseMs = RETRY_MS;
    try {
      const changes = await this.update(startedAt + RENEW_TIMEOUT_MS);
      if (changes === 0) {
        this.stop();
        return this.events.onLost();
      }
      this.confirm(startedAt);
      pauseMs = Math.max(0, RENEW_EVERY_MS - (performance.now() - startedAt));
    } catch {
      // The connector logs it; the next attempt may succeed.
    }
    this.renewing = false;
    if (!this.stopped) this.timer = setTimeout(() => this.renew(), pauseMs);
  }

  private confirm(startedAt: number): void {
    const wasValid = this.valid();
    if (startedAt - this.confirmedAt > STEADY_MS) {
      this.steadySince = performance.now();
      this.hasBeenLate = true;
    }
    this.confirmedAt = startedAt;
    if (!wasValid && this.valid()) this.events.onRegained();
  }

  private async update(deadline: number): Promise<number> {
    const connection = await this.connect(deadline);
    const expires = `UTC_TIMESTAMP(6) + INTERVAL ${LEASE_S} SECOND`;
    const [result] = await connection.query(
      [`UPDATE instance SET expires = ${expires} WHERE boot = ${literal(this.boot.name)}`],
      deadline - performance.now(),
    );
    return result!.changes;
  }

  private async open(deadline: number): Promise<MysqlConnection> {
    const made = await this.connector.open(deadline, (connection) => this.boot.register(connection));
    this.connection = made;
    if (this.stopped) made.destroy();
    made.onLost = () => {
      if (!this.stopped) this.renew();
    };
    return made;
  }
}
