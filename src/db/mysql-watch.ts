// Watches the other instances, every second: takes over those whose leases have expired, reports those that are gone,
// and cleans up where this instance is the first of all.
import type { Boot } from "./mysql-boot.ts";
import { cleanCommits } from "./mysql-commits.ts";
import type { Lease } from "./mysql-lease.ts";
import { cleanLinks, fence, type Instance, isGone, isSettled, readInstances } from "./mysql-survivor.ts";

/** With the lease and the grace period added, users of a dead instance are offline for everyone within 10 s. */
const LOOK_EVERY_MS = 1_000;
const CLEAN_EVERY_MS = 10_000;

/** Living instances renew more often. Guards against a changed database clock, by which all seem expired until then. */
const RENEWED_MS = 3_000;

export class Watch {
  /** Each boot's lease, and since when it has had this value, performance.now(). */
  private leases = new Map<string, { expires: string; since: number }>();
  /** The other living boots at the last look. */
  otherBoots = new Set<string>();
  private timer: Timer | undefined;
  private watching: Boot | null = null;
  private lease: Lease | null = null;
  private cleanedAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly storeTimeoutMs: number,
    /** Called with boots that were there and no longer are. */
    private readonly onGone: (boots: string[]) => void,
  ) {}

  /** Watches as `boot`. To be called while it is stopped. */
  start(boot: Boot, lease: Lease): void {
    this.watching = boot;
    this.lease = lease;
    this.timer = setTimeout(() => this.run(boot), LOOK_EVERY_MS);
  }

  stop(): void {
    this.watching = null;
    clearTimeout(this.timer);
  }

  /** Whether another boot has ended; if so, it is fenced. */
  async fenceIfDead(own: Boot, boot: string): Promise<boolean> {
    const found = (await readInstances(own, this.deadline())).find((each) => each.boot === boot);
    if (found === undefined) return true;
    let won: boolean;
    if (this.isExpired(found) && (await this.mayFence(own))) won = await fence(own, boot, false, this.deadline());
    else if (this.lease?.isRecovering === false && (await isGone(own, boot, this.deadline())))
      won = await fence(own, boot, true, this.deadline());
    else return false;
    // If it has renewed its lease at the last moment, it is still there.
    if (!won && (await readInstances(own, this.deadline())).some((each) => each.boot === boot)) return false;
    this.reportGone([boot]);
    return true;
  }

  private async run(own: Boot): Promise<void> {
    const startedAt = performance.now();
    try {
      await this.look(own);
    } catch {
      // The database is away, or a lock is held: the next look follows.
    }
    if (this.watching !== own) return;
    const pauseMs = Math.max(0, LOOK_EVERY_MS - (performance.now() - startedAt));
    this.timer = setTimeout(() => this.run(own), pauseMs);
  }

  private async look(own: Boot): Promise<void> {
    const found = await readInstances(own, this.deadline());
    this.noteLeases(found);
    const expired = found.filter((each) => each.boot !== own.name && this.isExpired(each));
    const toFence = expired.length > 0 && (await this.mayFence(own)) ? expired : [];
    // One whose rows are still locked is tried again at the next look.
    for (const { boot } of toFence) await fence(own, boot, false, this.deadline()).catch(() => false);
    const left = toFence.length > 0 ? await readInstances(own, this.deadline()) : found;
    const names = new Set(left.map(({ boot }) => boot));
    this.reportGone([...this.otherBoots].filter((boot) => !names.has(boot)));
    const first = [...names].every((boot) => boot >= own.name);
    names.delete(own.name);
    this.otherBoots = names;
    if (performance.now() - this.cleanedAt < CLEAN_EVERY_MS) return;
    this.cleanedAt = performance.now();
    await cleanLinks(own, this.deadline());
    if (first) await cleanCommits(own, this.storeTimeoutMs);
  }

  /** After an outage of the database all leases have expired; living instances return within a lease's time. */
  private async mayFence(own: Boot): Promise<boolean> {
    return this.lease?.provesOthersDead === true && (await isSettled(own, this.deadline()));
  }

  private noteLeases(found: Instance[]): void {
    const now = performance.now();
    const known = this.leases;
    this.leases = new Map(
      found.map(({ boot, expires }) => {
        const before = known.get(boot);
        return [boot, before?.expires === expires ? before : { expires, since: now }];
      }),
    );
  }

  private isExpired({ boot, expires, expired }: Instance): boolean {
    const noted = this.leases.get(boot);
    return expired && noted?.expires === expires && performance.now() - noted.since >= RENEWED_MS;
  }

  private reportGone(boots: string[]): void {
    for (const boot of boots) this.otherBoots.delete(boot);
    if (boots.length > 0) this.onGone(boots);
  }

  private deadline(): number {
    return performance.now() + this.storeTimeoutMs;
  }
}
