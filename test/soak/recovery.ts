// How long it takes until all is well again after a fault. What was counted while other faults were at work is kept
// apart: there is no telling which of them it waited for.
import type { Device, Instance, Mark } from "./fault.ts";
import { type Flow, RECENT } from "./ledger.ts";

/** A message told later than this after its acknowledgement came by the store's log, not live. */
const LIVE_MS = 500;
/** So long without a late one, and they are live again: by the log alone, which is read every 2 s, they are late for longer. */
const CALM_MS = 1_000;
/** For so long after Redis's return it is watched whether messages are live. */
const WATCH_MS = 6_000;
/** What another fault has left behind may take so long: half-open connections to the database, twice --store-timeout. */
export const AFTERMATH_MS = 10_000;
/** Faults that may be at work, or were a moment ago: the last ones. */
const LATELY = 12;

/** A fault that is being injected, or was. */
export interface Activity {
  name: string;
  from: number;
  /** Infinity while it goes on. */
  to: number;
}

/** Samples of one kind, in milliseconds. */
export class Samples {
  private readonly values: number[] = [];

  add(value: number): void {
    this.values.push(value);
  }

  get count(): number {
    return this.values.length;
  }

  /** Null where there is no sample. */
  quantile(share: number): number | null {
    const sorted = this.values.toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null;
  }
}

interface Waiting {
  mark: Mark;
  at: number;
  by: Activity;
  /** The instance that died: elsewhere is anywhere else. */
  instance: Instance | undefined;
  devices: Set<Device>;
}

interface Watch {
  at: number;
  by: Activity;
  instance: Instance | undefined;
  /** When the messages that were told late had been acknowledged, by "from to" instance. */
  late: Map<string, number[]>;
}

export class Recovery {
  /** Without other faults, and together with others. */
  readonly alone = {
    "instance-died": new Samples(),
    "redis-returned": new Samples(),
    "database-returned": new Samples(),
  };
  readonly together = {
    "instance-died": new Samples(),
    "redis-returned": new Samples(),
    "database-returned": new Samples(),
  };
  /** From a message's acknowledgement to another instance's device, while Redis was in trouble and nothing else. */
  readonly withoutRedis = new Samples();
  readonly activities: Activity[] = [];
  /** Told of every sample. */
  tell: (line: string) => void = () => undefined;
  private waiting: Waiting[] = [];
  private watches: Watch[] = [];
  private devices = new Map<string, Device>();

  begin(devices: readonly Device[]): void {
    this.devices = new Map(devices.map((device) => [device.name, device]));
  }

  mark(mark: Mark, by: Activity, instance?: Instance): void {
    const at = performance.now();
    if (mark === "redis-returned") {
      const watch = { at, by, instance, late: new Map<string, number[]>() };
      this.watches.push(watch);
      setTimeout(() => this.conclude(watch), WATCH_MS);
      return;
    }
    const all = [...this.devices.values()];
    const concerned = all.filter((device) => instance === undefined || device.instance === instance);
    this.waiting.push({ mark, at, by, instance, devices: new Set(concerned) });
  }

  /** A device has got an acknowledgement. */
  acked(device: Device): void {
    for (const waiting of this.waiting) {
      if (!waiting.devices.has(device)) continue;
      // What was still on its way from the dead one is not from elsewhere.
      if (waiting.mark === "instance-died" && device.instance === waiting.instance) continue;
      waiting.devices.delete(device);
      this.add(waiting.mark, waiting.at, waiting.by, performance.now() - waiting.at);
      if (waiting.devices.size === 0) this.waiting = this.waiting.filter((each) => each !== waiting);
    }
  }

  /** A device was told a message of another's, perhaps on another instance. */
  told(device: Device, flow: Flow, number: number): void {
    if (flow.seqs.get(number) === 0) return;
    const [from, to] = [this.devices.get(flow.account.owner.name)?.instance ?? null, device.instance];
    if (from === null || to === null || from === to) return;
    const ackedAt = flow.ackedAt[number % RECENT]!;
    // Told before its sender has heard of the acknowledgement.
    if (ackedAt === 0) return;
    const now = performance.now();
    const since = Math.max(ackedAt, device.onlineAt);
    if (flow.count - number < RECENT && this.isRedisAway(since, now)) this.withoutRedis.add(now - since);
    for (const { at, instance, late } of this.watches) {
      if (instance !== undefined && from !== instance && to !== instance) continue;
      const pair = `${from.index} ${to.index}`;
      const isLate = ackedAt >= at && now - ackedAt > LIVE_MS && flow.count - number < RECENT;
      const times = late.get(pair) ?? [];
      late.set(pair, times);
      if (isLate) times.push(ackedAt);
    }
  }

  /** And nothing else went wrong. */
  private isRedisAway(since: number, now: number): boolean {
    let isAway = false;
    for (let at = this.activities.length - 1; at >= Math.max(0, this.activities.length - LATELY); at--) {
      const { name, from, to } = this.activities[at]!;
      if (from > now || to < since - AFTERMATH_MS) continue;
      if (!name.startsWith("redis ")) return false;
      if (to >= since) isAway = true;
    }
    return isAway;
  }

  private conclude(watch: Watch): void {
    this.watches = this.watches.filter((each) => each !== watch);
    for (const times of watch.late.values()) {
      // What is late long afterwards has waited for something else, such as the machine.
      let last = watch.at;
      for (const ackedAt of times.toSorted((a, b) => a - b)) {
        if (ackedAt - last > CALM_MS) break;
        last = ackedAt;
      }
      this.add("redis-returned", watch.at, watch.by, last - watch.at);
    }
  }

  private add(mark: Mark, at: number, by: Activity, ms: number): void {
    const isDisturbed = this.activities.some(
      (each) => each !== by && each.from <= at + ms && each.to >= at - AFTERMATH_MS,
    );
    (isDisturbed ? this.together : this.alone)[mark].add(ms);
    this.tell(`${mark} ${isDisturbed ? "together" : "alone"}: ${Math.round(ms)} ms after ${by.name}`);
  }
}
