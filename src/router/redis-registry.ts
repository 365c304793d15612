// Who is where, in Redis: a hash per user that maps each device to its owner, as boot:epoch.
import type { Client } from "./redis-client.ts";
import { CLAIM, LOCATE, RELEASE } from "./redis-scripts.ts";
import type { Owner } from "./router.ts";

/** Entries that could not be removed, kept to be removed later. */
const MAX_UNRELEASED = 100_000;
/** A shard's users lie on one node of a Redis Cluster, so that what concerns many users is one command per shard. */
const SHARDS = 16;
/** Users per command, during which Redis does nothing else. */
const AT_ONCE = 1_000;
/** Entries that nobody removes, such as those of a store that is gone, expire after this time. */
const ENTRY_TTL_S = 7 * 86_400;

export interface RegistryOptions {
  prefix: string;
  boot: string;
  /** Whether users of different shards may lie on different nodes. */
  sharded: boolean;
}

/** A script's arguments for one user. */
interface Ask {
  userId: number;
  args: string[];
}

interface Waiting extends Ask {
  resolve(answer: string | null): void;
}

export class Registry {
  /** Requests of this turn of the loop: many in a storm of logins, sent as one command. */
  private claims: Waiting[] = [];
  private releases: Waiting[] = [];
  private readonly unreleased = new Map<string, { owner: Owner; boot: string }>();

  constructor(
    private readonly options: RegistryOptions,
    /** Returns the command's result; null where Redis did not do it. */
    private readonly attempt: <T>(work: (redis: Client) => Promise<T>) => Promise<T | null>,
  ) {}

  /** See Router, also for `release`. */
  async claim({ userId, device, epoch }: Owner): Promise<void> {
    await this.add(this.claims, userId, device, String(epoch));
  }

  async release(owner: Owner, boot = this.options.boot): Promise<void> {
    const { userId, device, epoch } = owner;
    const entry = `${boot}:${epoch}`;
    const done = await this.add(this.releases, userId, device, entry);
    if (done === null && this.unreleased.size < MAX_UNRELEASED)
      this.unreleased.set(`${userId}/${device}/${entry}`, { owner, boot });
  }

  /** By user, the other boots where they have sessions; null where Redis cannot say now. */
  async locate(userIds: number[]): Promise<Map<number, string[]> | null> {
    const asked = userIds.map((userId) => ({ userId, args: [] }));
    const answers = await this.run<string[]>(LOCATE, asked);
    const found = new Map<number, string[]>();
    for (const [i, values] of answers.entries()) {
      if (values === null) return null;
      const boots = new Set(values.map(bootOf));
      boots.delete(this.options.boot);
      if (boots.size > 0) found.set(userIds[i]!, [...boots]);
    }
    return found;
  }

  /** Retries the removals that failed. */
  retry(): void {
    const unreleased = [...this.unreleased.values()];
    this.unreleased.clear();
    for (const { owner, boot } of unreleased) this.release(owner, boot);
  }

  flush(): void {
    const { claims, releases } = this;
    this.claims = [];
    this.releases = [];
    // In this order: a session that ended while being entered is removed afterwards.
    this.settle(claims, this.run(CLAIM, claims, this.options.boot, String(ENTRY_TTL_S)));
    this.settle(releases, this.run(RELEASE, releases));
  }

  private add(waiting: Waiting[], userId: number, ...args: string[]): Promise<string | null> {
    if (this.claims.length + this.releases.length === 0) setImmediate(() => this.flush());
    return new Promise((resolve) => waiting.push({ userId, args, resolve }));
  }

  private async settle(waiting: Waiting[], answers: Promise<(string | null)[]>): Promise<void> {
    for (const [i, answer] of (await answers).entries()) waiting[i]!.resolve(answer);
  }

  /** The script's result for each of these users; null where Redis did not do it. */
  private async run<T>(script: string, asked: Ask[], ...common: string[]): Promise<(T | null)[]> {
    const answers: (T | null)[] = Array(asked.length).fill(null);
    const shards = Map.groupBy(asked.keys(), (i) => (this.options.sharded ? asked[i]!.userId % SHARDS : 0));
    const portions: number[][] = [];
    for (const all of shards.values())
      for (let at = 0; at < all.length; at += AT_ONCE) portions.push(all.slice(at, at + AT_ONCE));
    const done = portions.map(async (portion) => {
      const keys = portion.map((i) => this.userKey(asked[i]!.userId));
      const args = portion.flatMap((i) => asked[i]!.args);
      const found = await this.attempt((redis) => redis.eval(script, keys.length, ...keys, ...common, ...args));
      if (found !== null) for (const [k, i] of portion.entries()) answers[i] = (found as T[])[k]!;
    });
    await Promise.all(done);
    return answers;
  }

  private userKey(userId: number): string {
    return `${this.options.prefix}{s${userId % SHARDS}}:user:${userId}`;
  }
}

const bootOf = (entry: string): string => entry.slice(0, Math.max(0, entry.lastIndexOf(":")));
