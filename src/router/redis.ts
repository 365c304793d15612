// Redis as the fast path between instances: it says where users' devices are (see Registry), and a channel per boot
// carries what the others tell it. It holds nothing that cannot be lost: the commit log brings what goes missing here.
import { type Client, checkDatabase, connect, isDisconnected, isRefusal } from "./redis-client.ts";
import { Registry } from "./redis-registry.ts";
import type { RedisTarget } from "./redis-url.ts";
import type { Addressed, Hint, Owner, Router, RouterEvents } from "./router.ts";

export interface RedisRouterOptions {
  target: RedisTarget;
  /** Prefix of every key and channel. */
  prefix: string;
  boot: string;
  log: { warn(line: string): void; info(line: string): void };
}

const PROBE_EVERY_MS = 1_000;
/** An instance that has not heard its own probe for this long is deaf: a subscription can be lost without an error. */
const DEAF_MS = 2_000;
/** Within this time the first attempt to reconnect has ended, and has told the cause. */
const CAUSE_MS = 2_000;
/** Hints for more receivers than this go to every boot, without a look-up. */
const MAX_LOOKUP = 200;
/** One publish carries an array of these. */
type Envelope =
  | { kind: "hint"; hint: Hint }
  | { kind: "kick"; owner: Owner; from: string; id: number }
  | { kind: "kicked"; id: number }
  | { kind: "presence"; userId: number }
  | { kind: "probe" };

export class RedisRouter implements Router {
  private readonly commands: Client;
  private readonly subscriber: Client;
  private readonly all: string;
  private readonly probe: Timer;
  private outbox = new Map<string, Envelope[]>();
  private heardAt = performance.now();
  /** Whether a probe has been heard since the start. */
  heardOnce = false;
  /** When it last subscribed, performance.now(). */
  private subscribedAt = Number.NEGATIVE_INFINITY;
  /** Identifies Redis' contents: a different value means that it has been emptied since. */
  private generation: string | null = null;
  /** Why Redis is away; "" where it is not, or that is not known yet. */
  private cause = "";
  /** performance.now(); null while Redis answers. */
  private awaySince: number | null = null;
  /** When something failed last, performance.now(). */
  private failedAt = Number.NEGATIVE_INFINITY;
  private outageLogged = false;
  private readonly registry: Registry;
  private kicks = new Map<number, () => void>();
  private lastKick = 0;

  /** `events` may be called from now on. Redis may be away: what cannot be done is skipped. */
  constructor(
    private readonly options: RedisRouterOptions,
    private readonly events: RouterEvents,
  ) {
    const { prefix, boot, target } = options;
    this.all = `${prefix}all`;
    this.registry = new Registry({ prefix, boot, sharded: target.kind === "cluster" }, (work) => this.try(work));
    this.commands = connect(options.target);
    this.subscriber = connect(options.target);
    for (const client of [this.commands, this.subscriber])
      client.on("error", (error: Error) => this.noteFailure(error.message));
    this.commands.on("ready", () => this.probeSelf());
    this.subscriber.on("ready", () => this.subscribe());
    this.subscriber.on("message", (_channel: string, text: string) => this.hear(text));
    this.probe = setInterval(() => this.probeSelf(), PROBE_EVERY_MS);
  }

  get hears(): boolean {
    return performance.now() - this.heardAt < DEAF_MS;
  }

  /** Whether all that is needed has worked. Before that no failure is logged: `ready` rejects with the reason. */
  private get reached(): boolean {
    return this.heardOnce && this.generationKnown;
  }

  /** Whether it would be noticed if Redis were emptied. */
  get generationKnown(): boolean {
    return this.generation !== null;
  }

  /** Waits until everything that is needed works; rejects with what does not, after `ms` or when waiting does not help. */
  async ready(ms: number): Promise<void> {
    const end = performance.now() + ms;
    let last = "no answer";
    while (performance.now() < end) {
      try {
        await this.commands.ping();
        await checkDatabase(this.commands, this.options.target);
        if (this.reached) return this.noteAnswer();
        last = this.cause || last;
      } catch (error) {
        const { message } = error as Error;
        last = isDisconnected(message) ? this.cause || message : message;
      }
      if (isRefusal(last)) break;
      await Bun.sleep(50);
    }
    throw new Error(last);
  }

  claim(owner: Owner): Promise<void> {
    return this.registry.claim(owner);
  }

  release(owner: Owner, boot?: string): Promise<void> {
    return this.registry.release(owner, boot);
  }

  kick(boot: string, owner: Owner, ms: number): Promise<void> {
    const id = ++this.lastKick;
    this.send(this.channel(boot), { kind: "kick", owner, from: this.options.boot, id });
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.kicks.delete(id);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.kicks.set(id, done);
    });
  }

  locate(userIds: number[]): Promise<Map<number, string[]> | null> {
    return this.registry.locate(userIds);
  }

  async forward(hints: Addressed[]): Promise<void> {
    const users = new Set<number>();
    const known = new Map<number[], Set<string>>();
    let last: number[] = [];
    for (const { receivers } of hints) {
      if (receivers.length <= MAX_LOOKUP && receivers !== last) for (const id of receivers) users.add(id);
      last = receivers;
    }
    const where = users.size > 0 ? await this.locate([...users]) : new Map<number, string[]>();
    for (const { hint, receivers } of hints) {
      if (receivers.length > MAX_LOOKUP || where === null) {
        this.send(this.all, { kind: "hint", hint });
        continue;
      }
      // Hints of one group share its list of members.
      let boots = known.get(receivers);
      if (boots === undefined) {
        boots = new Set();
        for (const id of receivers) for (const boot of where.get(id) ?? []) boots.add(boot);
        known.set(receivers, boots);
      }
      for (const boot of boots) this.send(this.channel(boot), { kind: "hint", hint });
    }
  }

  announce(userId: number): void {
    this.send(this.all, { kind: "presence", userId });
  }

  async close(): Promise<void> {
    clearInterval(this.probe);
    this.registry.flush();
    this.flush();
    await this.try((redis) => redis.ping());
    this.commands.disconnect();
    this.subscriber.disconnect();
  }

  private channel(boot: string): string {
    return `${this.options.prefix}boot:${boot}`;
  }

  /** What one turn of the loop sends to a channel leaves as one message. */
  private send(channel: string, envelope: Envelope): void {
    if (this.outbox.size === 0) setImmediate(() => this.flush());
    const waiting = this.outbox.get(channel);
    if (waiting === undefined) this.outbox.set(channel, [envelope]);
    else waiting.push(envelope);
  }

  private flush(): void {
    const outbox = this.outbox;
    this.outbox = new Map();
    for (const [channel, envelopes] of outbox)
      this.try((redis) => redis.publish(channel, JSON.stringify({ from: this.options.boot, envelopes })));
  }

  private hear(text: string): void {
    let from: string;
    let envelopes: Envelope[];
    try {
      ({ from, envelopes } = JSON.parse(text));
      if (!Array.isArray(envelopes)) throw new TypeError("no envelopes");
    } catch {
      return this.options.log.warn(
        "Redis delivered a message that no instance sent: another program uses its channels, give another --redis-prefix",
      );
    }
    const own = from === this.options.boot;
    const hints: Hint[] = [];
    for (const envelope of envelopes) {
      if (envelope.kind === "probe") {
        this.heardAt = performance.now();
        this.heardOnce = true;
        if (this.awaySince !== null) this.recover();
      } else if (own) continue;
      else if (envelope.kind === "hint") hints.push(envelope.hint);
      else if (envelope.kind === "presence") this.events.onPresence(envelope.userId);
      else if (envelope.kind === "kicked") this.kicks.get(envelope.id)?.();
      else {
        const { owner, from, id } = envelope;
        this.events.onKick(owner, () => this.send(this.channel(from), { kind: "kicked", id }));
      }
    }
    if (hints.length > 0) this.events.onHints(hints);
  }

  private async probeSelf(): Promise<void> {
    this.sendProbe();
    if (this.subscriber.status === "ready") {
      // A new connection gets the same time to be heard as an old one.
      const deafSince = Math.max(this.heardAt, this.subscribedAt);
      if (performance.now() - deafSince > DEAF_MS) this.subscriber.disconnect(true);
      // So that a dead connection is noticed.
      else this.subscriber.ping().catch(() => undefined);
    }
    await this.recover();
  }

  private sendProbe(): void {
    this.send(this.channel(this.options.boot), { kind: "probe" });
  }

  /** Subscribes, on a new connection. */
  private async subscribe(): Promise<void> {
    this.subscribedAt = performance.now();
    try {
      await this.subscriber.subscribe(this.channel(this.options.boot), this.all);
      this.sendProbe();
    } catch (error) {
      this.noteFailure((error as Error).message);
    }
  }

  /** Notices that Redis has been emptied or was away, and brings it up to date. */
  private async recover(): Promise<void> {
    const key = `${this.options.prefix}generation`;
    const generation = await this.try(async (redis) => {
      await redis.set(key, crypto.randomUUID(), "NX");
      return redis.get(key);
    });
    if (typeof generation !== "string") return;
    // Not if, say, only channels are forbidden, or only one of the two connections is to be had.
    const isBack = this.awaySince !== null && this.heardAt > this.failedAt;
    if (isBack) {
      if (this.outageLogged) this.options.log.info("Redis answers again");
      this.noteAnswer();
    }
    const emptied = this.generation !== null && this.generation !== generation;
    this.generation = generation;
    if (emptied) this.options.log.warn("Redis has been emptied: all sessions are registered there again");
    if (emptied || isBack) this.events.onReset();
    this.registry.retry();
  }

  /** The command's result; null where Redis did not do it. */
  private async try<T>(work: (redis: Client) => Promise<T>): Promise<T | null> {
    try {
      return await work(this.commands);
    } catch (error) {
      this.noteFailure((error as Error).message);
      return null;
    }
  }

  /** Logs one line per outage, not one for each command that fails. */
  private noteFailure(message: string): void {
    this.failedAt = performance.now();
    this.awaySince ??= this.failedAt;
    if (!isDisconnected(message)) this.cause = message || "no answer";
    else if (performance.now() - this.awaySince < CAUSE_MS) return;
    if (this.outageLogged || !this.reached) return;
    this.outageLogged = true;
    const cause = this.cause || message;
    this.options.log.warn(`Redis does not answer (${cause}): messages between instances may take 2 s until it does`);
  }

  /** Redis answers again. */
  private noteAnswer(): void {
    this.cause = "";
    this.awaySince = null;
    this.outageLogged = false;
  }
}
