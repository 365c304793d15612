// A boot's lease: confirmed every 2 s on a connection of its own, so that nothing delays it. That connection is made again
// as soon as it is lost: a boot without any counts as ended. A lease that has become too old may still be confirmed, as
// long as nobody has taken the boot over: whoever does takes its row out and fences its lanes in one transaction.
import { type Boot, LEASE_S } from "./mysql-boot.ts";
import { type Connection, literal } from "./mysql-connection.ts";
import type { Connector } from "./mysql-pool.ts";

const RENEW_EVERY_MS = 2_000;
const RETRY_MS = 250;
const RENEW_TIMEOUT_MS = 2_000;
/** What the clocks of two machines may differ in speed, and an action may take. */
const MARGIN_MS = 500;
/** Confirmations further apart than this: the database was away meanwhile, perhaps for everybody. */
const STEADY_MS = RENEW_EVERY_MS + 1_000;

export interface LeaseEvents {
  /** Others have taken the boot over. Called once, at the end. */
  onLost(): void;
  /** The lease is valid again, after a time in which it was not: the boot is not fenced. */
  onRegained(): void;
}

export class Lease {
  private connection: Connection | null = null;
  private timer: Timer | undefined;
  private stopped = false;
  private renewing = false;
  private confirmedAt: number;
  /** Since when one confirmation has followed the other without delay, performance.now(). */
  private steadySince: number;
  /** One was late. */
  private hasBeenLate = false;

  /** `beganAt`: when the boot began to be entered, by performance.now(). */
  constructor(
    private readonly connector: Connector,
    private readonly boot: Boot,
    beganAt: number,
    private readonly events: LeaseEvents,
  ) {
    this.confirmedAt = this.steadySince = beganAt;
    // At once, for the connection.
    this.renew();
  }

  valid(): boolean {
    return !this.stopped && performance.now() - this.confirmedAt < LEASE_S * 1_000 - MARGIN_MS;
  }

  /**
   * Whether an expired lease of another boot proves that boot dead: the database has been there for long enough that it
   * would have renewed its lease too. After an outage all leases have expired.
   */
  get provesOthersDead(): boolean {
    return this.isSteady && performance.now() - this.steadySince >= LEASE_S * 1_000;
  }

  /** Whether the boot has just come out of an outage: others may not have found their way back to the database yet. */
  get isRecovering(): boolean {
    return (this.hasBeenLate || !this.isSteady) && !this.provesOthersDead;
  }

  /** Whether the last confirmation was in time. */
  private get isSteady(): boolean {
    return !this.stopped && performance.now() - this.confirmedAt <= STEADY_MS;
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.connection?.destroy();
  }

  /** One that is late is confirmed too, as long as nobody has taken it over. */
  private async renew(): Promise<void> {
    if (this.renewing) return;
    this.renewing = true;
    clearTimeout(this.timer);
    const startedAt = performance.now();
    let pauseMs = RETRY_MS;
    try {
      const changes = await this.update(startedAt + RENEW_TIMEOUT_MS);
      if (this.stopped) return;
      if (changes === 0) {
        this.stop();
        return this.events.onLost();
      }
      this.confirm(startedAt);
      pauseMs = Math.max(0, RENEW_EVERY_MS - (performance.now() - startedAt));
    } catch {
      // The connector tells of it; the next one may succeed.
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
    if (this.connection === null || this.connection.lost !== null) {
      const made = await this.connector.open(deadline, (connection) => this.boot.register(connection));
      this.connection = made;
      if (this.stopped) made.destroy();
      made.onLost = () => {
        if (!this.stopped) this.renew();
      };
    }
    const expires = `UTC_TIMESTAMP(6) + INTERVAL ${LEASE_S} SECOND`;
    const [result] = await this.connection.query(
      [`UPDATE instance SET expires = ${expires} WHERE boot = ${literal(this.boot.name)}`],
      deadline - performance.now(),
    );
    return result!.changes;
  }
}
