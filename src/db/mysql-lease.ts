// A boot's lease: confirmed every 2 s on a connection of its own, so that nothing delays it. That connection is made again
// as soon as it is lost: a boot without any counts as ended.
import { type Boot, LEASE_S } from "./mysql-boot.ts";
import { type Connection, literal } from "./mysql-connection.ts";
import type { Connector } from "./mysql-pool.ts";

const RENEW_EVERY_MS = 2_000;
const RETRY_MS = 250;
const RENEW_TIMEOUT_MS = 2_000;
/** What the clocks of two machines may differ in speed, and an action may take. */
const MARGIN_MS = 500;

export class Lease {
  private connection: Connection | null = null;
  private timer: Timer | undefined;
  private stopped = false;
  private renewing = false;
  private confirmedAt: number;
  /** Since when there was no time in which the lease was not valid. */
  validSince = Number.NEGATIVE_INFINITY;

  /** `beganAt`: when the boot began to be entered, by performance.now(). */
  constructor(
    private readonly connector: Connector,
    private readonly boot: Boot,
    beganAt: number,
    private readonly onLost: () => void,
  ) {
    this.confirmedAt = beganAt;
    // At once, for the connection.
    this.renew();
  }

  valid(): boolean {
    return !this.stopped && performance.now() - this.confirmedAt < LEASE_S * 1_000 - MARGIN_MS;
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
      const changes = await this.confirm(startedAt + RENEW_TIMEOUT_MS);
      if (this.stopped) return;
      if (changes === 0) {
        this.stop();
        return this.onLost();
      }
      if (!this.valid()) this.validSince = performance.now();
      this.confirmedAt = startedAt;
      pauseMs = Math.max(0, RENEW_EVERY_MS - (performance.now() - startedAt));
    } catch {
      // The connector tells of it; the next one may succeed.
    }
    this.renewing = false;
    if (!this.stopped) this.timer = setTimeout(() => this.renew(), pauseMs);
  }

  private async confirm(deadline: number): Promise<number> {
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
