// Which fault comes when: some alone, so that recovery can be timed, and more of them together.
import type { Fault, World } from "./fault.ts";
import type { Findings } from "./ledger.ts";
import type { Protocol } from "./protocol.ts";
import type { Random } from "./random.ts";
import { type Activity, AFTERMATH_MS, type Recovery } from "./recovery.ts";
import type { Cluster } from "./world.ts";

/** Faults at once. */
const TOGETHER = 3;
const PAUSE_MS = [200, 4_000] as const;
/** Before a fault that comes alone, for the aftermath of others, and after it, for its own. */
const QUIET_MS = AFTERMATH_MS + 500;
const ALONE_MS = QUIET_MS + 1_000;
/** Phases of faults alone and of faults together take turns. */
const ALONE_COUNT = 3;
const TOGETHER_MS = [20_000, 60_000] as const;
/** The longest waits are 20 s; then a server starts again, or a database. */
const LONGEST_MS = 150_000;

export class Schedule {
  /** Those that can be injected here. */
  private readonly faults: Fault[];
  /** Injected, by name. */
  readonly counts = new Map<string, number>();
  private readonly running = new Set<Activity>();
  /** Faults in the order in which they come next; each comes before any comes again. */
  private upcoming: Fault[] = [];

  constructor(
    faults: Fault[],
    private readonly random: Random,
    private readonly cluster: Cluster,
    private readonly recovery: Recovery,
    private readonly findings: Findings,
    private readonly protocol: Protocol,
    private readonly worldOf: (random: Random, activity: Activity, begin: (detail: string) => void) => World,
  ) {
    for (const { name } of faults) this.counts.set(name, 0);
    this.faults = faults.filter((fault) => (fault.unavailable?.() ?? null) === null);
  }

  get injected(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }

  get active(): string[] {
    return [...this.running].map(({ name }) => name);
  }

  /** Until the cluster is ending; resolves when all faults are lifted. */
  async run(): Promise<void> {
    while (!this.cluster.isEnding) {
      if (this.faults.length === 0) await this.cluster.pause(QUIET_MS);
      for (let count = 0; count < ALONE_COUNT && this.faults.length > 0; count++) {
        await this.cluster.pause(QUIET_MS);
        await this.inject(this.next());
        await this.cluster.pause(ALONE_MS - QUIET_MS);
      }
      await this.runTogether(performance.now() + this.random.ms(...TOGETHER_MS));
    }
  }

  /** Until then and until so many were injected, or the end; resolves when they are lifted. */
  async runTogether(until: number, least = 0): Promise<void> {
    if (this.faults.length === 0) return this.cluster.pause(until - performance.now());
    const slots = Array.from({ length: TOGETHER }, async () => {
      while ((performance.now() < until || this.injected < least) && !this.cluster.isEnding) {
        await this.cluster.pause(this.random.ms(...PAUSE_MS));
        await this.inject(this.next());
      }
    });
    await Promise.all(slots);
  }

  private next(): Fault {
    if (this.upcoming.length === 0) {
      // A weight of 2 comes twice in a round, one of 0.5 in every other.
      const times = ({ weight = 1 }: Fault) => Math.floor(weight) + Number(this.random.chance(weight % 1));
      this.upcoming = this.random.shuffle(this.faults.flatMap((fault) => Array<Fault>(times(fault)).fill(fault)));
    }
    return this.upcoming.pop() ?? this.random.pick(this.faults);
  }

  private async inject(fault: Fault): Promise<void> {
    if (this.cluster.isEnding) return;
    const activity: Activity = { name: fault.name, from: performance.now(), to: Number.POSITIVE_INFINITY };
    let begun = false;
    const begin = (detail: string) => {
      this.protocol.note(`begins: ${fault.name} ${detail}`);
      if (begun) return;
      begun = true;
      activity.from = performance.now();
      this.recovery.activities.push(activity);
      this.running.add(activity);
      this.counts.set(fault.name, this.counts.get(fault.name)! + 1);
    };
    const late = setTimeout(
      () => this.findings.add("soak", `${fault.name} is not lifted after ${LONGEST_MS / 1000} s`),
      LONGEST_MS,
    );
    try {
      await fault.inject(this.worldOf(this.random.fork(), activity, begin));
    } catch (error) {
      this.findings.add("soak", `${fault.name}: ${(error as Error).stack}`);
    }
    clearTimeout(late);
    activity.to = performance.now();
    this.running.delete(activity);
    this.protocol.note(`lifted: ${fault.name}`);
  }
}
