// Who is where, at Redis: a hash per user, in which each device has its owner as boot:epoch.
import type { Client } from "./redis-client.ts";
import { CLAIM, LOCATE, RELEASE } from "./redis-scripts.ts";
import type { Owner } from "./router.ts";

/** Log-ins that could not be taken out, kept to be taken out later. */
const MAX_UNRELEASED = 100_000;
/** Users of one shard lie on one node of a Redis Cluster, so that what concerns many of them is one command a shard. */
const SHARDS = 16;
/** Users of one command, during which Redis does nothing else. */
const AT_ONCE = 1_000;
/** Entries that nobody removes, as of a store that is gone, go by themselves. */
const ENTRY_TTL_S = 7 * 86_400;

export interface RegistryOptions {
  prefix: string;
  boot: string;
  /** Whether users of different shards may lie on different nodes. */
  sharded: boolean;
}

/** What a script is to do for a user. */
interface Ask {
  userId: number;
  args: string[];
}

interface Waiting extends Ask {
  resolve(answer: string | null): void;
}

export class Registry {
  /** What this turn of the loop asks for: in a storm of log-ins many at once, which leave as one command. */
  private claims: Waiting[] = [];
  private releases: Waiting[] = [];
  private readonly unreleased = new Map<string, { owner: Owner; boot: string }>();

  constructor(
    private readonly options: RegistryOptions,
    /** The command's result; null where Redis did not do it. */
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

  /** The boots where these users have sessions, but this one; null where that is not known now. */
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

  /** Takes out what could not be taken out. */
  retry(): void {
    const unreleased = [...this.unreleased.values()];
    this.unreleased.clear();
    for (const { owner, boot } of unreleased) this.release(owner, boot);
  }

  flush(): void {
    const { claims, releases } = this;
    this.claims = [];
    this.releases = [];
    // What ended while it was being entered is taken out after that.
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

  /** What the script returns for each of these users; null where Redis did not do it. */
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
