// Joins this instance to the others that share its store. Redis, where there is one, is the fast path; the truth is in
// the store: the commit log, read every 2 s, brings whatever was not heard, and the device's epoch says who owns it.
import type { Head, Shared } from "../db/db.ts";
import type { Store } from "../model/store.ts";
import { ChatError, Errno, parseConv } from "../protocol.ts";
import type { Addressed, Hint, Owner, Router, RouterEvents } from "../router/router.ts";
import { readBehind } from "./behind.ts";
import { Claims } from "./claims.ts";
import { Contact } from "./contact.ts";
import { hintOf } from "./delivery.ts";
import type { Log } from "./log.ts";
import type { OtherInstances } from "./other-instances.ts";
import { notice, retryAfterMs } from "./render.ts";
import type { Session } from "./session.ts";
import type { Sessions } from "./sessions.ts";

/** Connects to Redis as `boot`. */
export type OpenRouter = (boot: string, events: RouterEvents) => Router;

const CONNECT_MS = 5_000;
const POLL_MS = 2_000;
/** How long a device's new owner waits for the old one to save what it has delivered. */
const KICK_MS = 1_000;
/** Users of a dead instance get this long to log in elsewhere before those who list them are told. */
const GRACE_MS = 2_000;
/** Logins compared with the store per statement. */
const CHECKED_AT_ONCE = 1_000;
const [RESTART_EVERY_MS, COMPLAIN_EVERY_MS] = [500, 30_000];
const RETRY_MS = 1_000;
/** Entries removed from Redis at once. */
const RELEASED_AT_ONCE = 500;

export class Cluster implements OtherInstances, RouterEvents {
  private router: Router | null = null;
  private outbox: Addressed[] = [];
  /** Ended sessions still to be removed from the store. */
  private toClose: [device: number, epoch: number][] = [];
  private closing: Promise<void> = Promise.resolve();
  private readonly contact: Contact;
  private startingOver = false;
  private polling = false;
  /** The store may list devices as online at this boot that have no session here. */
  private mayHaveStray = false;
  /** Such devices, where a login or session end still under way may settle it: looked at again by the next poll. */
  private suspects: Awaited<ReturnType<Store["devicesAt"]>> = [];
  private readonly claims: Claims;
  /** Boots that died within the grace period: their users still count as online. */
  private readonly recentlyDead = new Set<string>();
  /** Heads read from the commit log but not yet passed to the sessions: the store reports each only once. */
  private unread: Head[] = [];
  private unreadAll = false;
  private timer: Timer | undefined;

  constructor(
    private readonly store: Store & Shared,
    private readonly openRouter: OpenRouter | null,
    private readonly sessions: Sessions,
    private readonly log: Log,
  ) {
    sessions.join(this);
    sessions.delivery.forward = (hint, receivers) => this.forward(hint, receivers);
    sessions.delivery.mayPush = () => this.alive;
    sessions.cursors.maySave = () => this.alive;
    this.contact = new Contact(store, { endReplaced: () => this.endReplaced(), onThawed: () => this.goOn() }, log);
    store.onLost(() => this.startOver());
    store.onDead((boots) => this.noteDead(boots));
    this.claims = new Claims(sessions, (session) => this.router?.claim(ownerOf(session)));
    this.router = openRouter?.(store.boot, this) ?? null;
    this.timer = setInterval(() => this.poll(), POLL_MS);
  }

  /** Resolves when the other instances can be reached; rejects with the reason. */
  async connected(): Promise<void> {
    await this.router?.ready(CONNECT_MS);
  }

  /** Whether this instance may act: push, save positions, serve requests that need the store. */
  get alive(): boolean {
    return !this.startingOver && this.contact.alive;
  }

  get canAsk(): boolean {
    return this.router !== null;
  }

  async claim(session: Session, from: string): Promise<void> {
    const owner = ownerOf(session);
    await this.router?.claim(owner);
    // Only the store says whether anybody holds it: Redis may still name an instance that died.
    if (from === "") return;
    if (this.router !== null) await this.router.kick(from, owner, KICK_MS);
    // Without Redis the old owner finds out by itself, with its next poll.
    else await Bun.sleep(KICK_MS);
  }

  async release(session: Session): Promise<void> {
    this.toClose.push([session.deviceId, session.epoch]);
    await Promise.all([this.router?.release(ownerOf(session)), this.closeEnded()]);
  }

  async online(userIds: number[]): Promise<ReadonlySet<number>> {
    // From the store, not from Redis: entries that an instance failed to remove there would stay.
    const { boot } = this.store;
    // A boot whose death has not been noticed here yet still counts: nobody here has been told of it.
    const stillCounted = [...this.recentlyDead, ...this.store.otherBoots()];
    const devices = await this.store.devicesOf(userIds, boot, stillCounted);
    return new Set(devices.filter((device) => device.boot !== boot).map(({ userId }) => userId));
  }

  suspectStray(): void {
    this.mayHaveStray = true;
  }

  async isFree(userId: number, device: string): Promise<boolean> {
    const devices = await this.store.devicesOf([userId], this.store.boot);
    const held = devices.find((each) => each.device === device);
    return held === undefined || (held.boot !== this.store.boot && (await this.store.fenceIfDead(held.boot)));
  }

  announce(userId: number): void {
    this.router?.announce(userId);
  }

  onHints(hints: Hint[]): void {
    if (!this.alive) return;
    for (const { row, conv, name, memberVersion } of hints)
      this.sessions.delivery.deliver(hintOf(row, conv, name, memberVersion, parseConv(conv)!, true));
  }

  async onKick({ userId, device, epoch }: Owner, done: () => void): Promise<void> {
    await this.sessions.yield(userId, device, epoch);
    done();
  }

  onPresence(userId: number): void {
    this.sessions.presence.review([userId]);
  }

  async onReset(): Promise<void> {
    await this.claims.claimAll();
  }

  /** Releases everything that others wait for; to be called when all sessions have ended. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.closeEnded();
    await this.router?.close();
  }

  private forward(hint: Hint, receivers: number[]): void {
    if (this.router === null) return;
    const { row, conv, name, memberVersion } = hint;
    if (this.outbox.push({ hint: { row, conv, name, memberVersion }, receivers }) > 1) return;
    setImmediate(() => {
      const hints = this.outbox;
      this.outbox = [];
      this.router?.forward(hints);
    });
  }

  /** Finds what was committed elsewhere and not heard, and which sessions here are owned elsewhere by now. */
  private async poll(): Promise<void> {
    if (this.polling || !this.alive) return;
    this.polling = true;
    try {
      const { heads, all } = await this.store.readCommits();
      this.unread = this.unread.concat(heads);
      this.unreadAll ||= all;
      for (; this.unread.length > 0; this.unread.shift()) await this.sessions.delivery.noteHead(this.unread[0]!);
      if (this.unreadAll) await this.compareAll();
      this.unreadAll = false;
      await this.endReplaced();
      if (this.mayHaveStray || this.suspects.length > 0) await this.closeStray();
      this.sessions.presence.review(await this.store.readPresenceChanges());
    } catch (error) {
      this.log.warn(`the commit log could not be read, trying again: ${(error as Error).message}`);
    }
    this.polling = false;
    if (this.router?.hears) this.claims.refresh();
  }

  /** After a time without contact, in which nothing was pushed and hints were ignored. */
  private goOn(): void {
    for (const session of this.sessions) this.sessions.resume(session);
    this.poll();
  }

  private async compareAll(): Promise<void> {
    for (const session of [...this.sessions]) {
      if (session.ended || session.deviceId === 0) continue;
      await readBehind(this.store, session).catch((error) => {
        if (!(error instanceof ChatError && error.errno === Errno.replaced)) throw error;
      });
      this.sessions.delivery.wake(session);
    }
  }

  private async endReplaced(): Promise<void> {
    const mine = new Map([...this.sessions].filter(({ epoch }) => epoch > 0).map((each) => [each.deviceId, each]));
    const ids = [...mine.keys()];
    for (let from = 0; from < ids.length; from += CHECKED_AT_ONCE) {
      const asked = ids.slice(from, from + CHECKED_AT_ONCE).map((id): [number, number] => [id, mine.get(id)!.epoch]);
      for (const id of await this.store.replacedAmong(asked)) {
        const session = mine.get(id)!;
        // If it has ended meanwhile, its connection may belong to another session.
        if (!session.ended) this.sessions.replaceUnasked(session);
      }
    }
  }

  /** Removes from the store what it holds for this boot without a session: logins and ends that failed half-way. */
  private async closeStray(): Promise<void> {
    // All devices are read only once: there is always a login under way somewhere.
    const { mayHaveStray } = this;
    this.mayHaveStray = false;
    try {
      const noted = mayHaveStray ? await this.store.devicesAt([this.store.boot]) : this.suspects;
      const unowned = noted.filter(({ userId, device, epoch }) => this.sessions.epochOf(userId, device) < epoch);
      const stray = unowned.filter(({ userId, device }) => !this.sessions.holds(userId, device));
      this.suspects = unowned.filter(({ userId, device }) => this.sessions.holds(userId, device));
      await this.store.closeDevices(stray.map(({ id, epoch }) => [id, epoch]));
    } catch (error) {
      this.mayHaveStray = true;
      throw error;
    }
  }

  /** Removes ended sessions from the store, all that have gathered meanwhile together. */
  private closeEnded(): Promise<void> {
    this.closing = this.closing.then(async () => {
      if (this.toClose.length === 0) return;
      const closed = this.toClose;
      this.toClose = [];
      await this.store.closeDevices(closed).catch((error: Error) => {
        this.log.warn(`the end of ${closed.length} sessions is not recorded yet, trying again: ${error.message}`);
        this.suspectStray();
      });
    });
    return this.closing;
  }

  private noteDead(boots: string[]): void {
    for (const boot of boots) this.recentlyDead.add(boot);
    setTimeout(() => {
      for (const boot of boots) this.recentlyDead.delete(boot);
      this.tellOf(boots);
    }, GRACE_MS);
  }

  /** Those who list the users of dead instances are told, and the users' entries are removed from Redis. */
  private async tellOf(boots: string[]): Promise<void> {
    try {
      const devices = await this.store.devicesAt(boots);
      this.sessions.presence.review(devices.map(({ userId }) => userId));
      while (devices.length > 0)
        await Promise.all(
          devices.splice(0, RELEASED_AT_ONCE).map((device) => this.router?.release(device, device.boot)),
        );
    } catch (error) {
      this.log.warn(`users of a dead instance are not known yet, trying again: ${(error as Error).message}`);
      setTimeout(() => this.tellOf(boots), RETRY_MS);
    }
  }

  /** Others have taken this instance over: its sessions end, pending writes are dropped, and a new boot begins. */
  private async startOver(): Promise<void> {
    if (this.startingOver) return;
    this.startingOver = true;
    this.log.warn("other instances have declared this one dead: all its sessions end, and it starts over");
    // The old boot's entries in Redis are useless; a newer login's entry stays.
    for (const session of this.sessions) if (session.epoch > 0) this.router?.release(ownerOf(session));
    const retry = { retryAfterMs: retryAfterMs() };
    this.sessions.abandon(
      notice(Errno.shuttingDown, "the server has lost contact with its database: connect again", retry),
    );
    this.mayHaveStray = false;
    [this.toClose, this.suspects, this.outbox] = [[], [], []];
    this.router?.close();
    this.router = null;
    let complainedAt = Number.NEGATIVE_INFINITY;
    for (;;) {
      try {
        await this.store.restart();
        break;
      } catch (error) {
        if (performance.now() - complainedAt > COMPLAIN_EVERY_MS) {
          complainedAt = performance.now();
          this.log.warn(`not started over yet, trying again: ${(error as Error).message}`);
        }
        await Bun.sleep(RESTART_EVERY_MS);
      }
    }
    this.router = this.openRouter?.(this.store.boot, this) ?? null;
    this.contact.reset();
    this.startingOver = false;
    this.log.info("started over");
  }
}

const ownerOf = ({ userId, device, epoch }: Session): Owner => ({ userId, device, epoch });
