// The life cycle of a session: login (register, claim, then read what is stored), replacement, end.
import type { OpenedDevice } from "../model/owner.ts";
import type { Store } from "../model/store.ts";
import type { Connection } from "../net/connection.ts";
import { ChatError, Errno } from "../protocol.ts";
import { LocalRouter, type Located } from "../router/local.ts";
import { Cursors } from "./cursors.ts";
import { Delivery } from "./delivery.ts";
import type { Log } from "./log.ts";
import type { OtherInstances } from "./other-instances.ts";
import { Presence } from "./presence.ts";
import { refuseEnded, replacedError, replacedNotice, Session } from "./session.ts";

/** How long a login waits for the device's previous session to write out what it has pushed. */
const HANDOVER_MS = 1_000;
/** After a logout, output unsent for this long is dropped, so that others see the end: the next login gets it. */
const LEAVE_MS = 5_000;
/** A client that sent FIN this long ago and still awaits its login has most likely logged in elsewhere meanwhile. */
const HUNG_UP_MS = 1_000;

export interface LoginRequest {
  userId: number;
  name: string;
  device: string;
  /** End the device's other session instead of failing with errno 2. */
  takeover: boolean;
  confirms: boolean;
  /** From `nextOrder`, when the request arrived. */
  order: number;
}

export class Sessions {
  readonly router = new LocalRouter<Session>();
  readonly delivery: Delivery;
  readonly presence: Presence;
  readonly cursors: Cursors;
  /** The other instances; null where there are none. */
  private otherInstances: OtherInstances | null = null;
  private orders = 0;
  private readonly byConnection = new Map<Connection, Session>();
  /** Logins being committed, keyed by user and device. */
  private readonly opening = new Map<string, Promise<void>>();
  /** Ended sessions whose positions are not saved yet, keyed by user and device. */
  private readonly leaving = new Map<string, { session: Session; saved: Promise<void> }>();

  constructor(
    private readonly store: Store,
    /** The name of this start of the server. */
    private readonly boot: () => string,
    log: Log,
  ) {
    this.delivery = new Delivery(store, this.router, log);
    this.presence = new Presence(store, this.router, log);
    this.cursors = new Cursors(store, () => this.byConnection.values(), log);
    this.cursors.onReplaced = (session) => this.replaceUnasked(session);
  }

  /** Connects to the other instances. Called once, before any session. */
  join(otherInstances: OtherInstances): void {
    this.otherInstances = this.presence.otherInstances = otherInstances;
  }

  [Symbol.iterator](): Iterator<Session> {
    return this.byConnection.values();
  }

  of(connection: Connection): Session | null {
    return this.byConnection.get(connection) ?? null;
  }

  /** Of two logins of a device, the one with the higher order came later and owns it. */
  nextOrder(): number {
    return ++this.orders;
  }

  /**
   * Makes the connection the device's session. It is registered at once, but nothing is pushed before `begin`. Throws
   * errno 2, and 21 where another login has claimed the device meanwhile. What is stored is read after this.
   */
  async logIn(
    connection: Connection,
    { userId, name, device, takeover, confirms, order }: LoginRequest,
  ): Promise<Session> {
    if (connection.state !== "open") throw new ChatError(Errno.unavailable, "the connection is closed");
    const old = this.router.get(userId, device);
    if (old !== undefined && !takeover)
      throw new ChatError(
        Errno.alreadyOnline,
        `${name} is already online on this device: log in with takeover to end that session`,
      );
    // Checking passwords takes time: the login that was requested first may get here second.
    if (old !== undefined && old.order > order) {
      connection.retire(replacedNotice());
      throw replacedError();
    }
    const session = new Session(connection, userId, name, device, confirms, order);
    this.router.add(session);
    this.byConnection.set(connection, session);
    connection.anonymousSince = null;
    if (old !== undefined) this.replace(old);
    try {
      await this.untilSaved(session, connection);
      // A new device starts where the user's other devices stand, so their positions must be saved.
      await this.cursors.save(this.router.of(userId));
      await this.openInTurn(session, takeover);
      await session.handover;
      refuseEnded(session);
      if (session.outdoneBy > session.epoch) throw replacedError();
      return session;
    } catch (error) {
      // If it ended before the store gave it an epoch, `end` could not take it out.
      if (session.ended) this.release(session, true);
      // Takes precedence over the store's error: a client that tried again would take the device back.
      refuseEnded(session);
      this.end(session);
      throw error;
    }
  }

  /**
   * Commits the login once the device's earlier ones are settled: one delayed at the store must not be committed after
   * a newer one, which would lose the device to a session that no longer exists.
   */
  private async openInTurn(session: Session, takeover: boolean): Promise<void> {
    const { userId, device } = session;
    const key = `${userId}/${device}`;
    while (this.opening.has(key)) await this.opening.get(key);
    refuseEnded(session);
    const opened = this.openDevice(session, takeover).then(({ id, epoch, from }) => {
      session.deviceId = id;
      session.epoch = epoch;
      // Even if it has been outdone meanwhile: its successor goes on where its predecessor has stopped.
      session.handover = this.otherInstances?.claim(session, from) ?? null;
    });
    const settle = () => void this.opening.delete(key);
    this.opening.set(key, opened.then(settle, settle));
    return opened;
  }

  /** Commits the login. Throws errno 2 where the device is online at another instance. */
  private async openDevice(session: Session, takeover: boolean): Promise<OpenedDevice> {
    const { userId, device } = session;
    const isWanted = this.otherInstances === null ? [] : [() => !session.ended && !hasHungUp(session)];
    // Includes devices whose login is under way: it may be committed before this one.
    const online = this.router.of(userId).map((each) => each.device);
    const open = () => this.store.openDevice(userId, device, this.boot(), takeover, online, ...isWanted);
    try {
      return await open();
    } catch (error) {
      // It may have been committed nevertheless.
      if (!(error instanceof ChatError)) this.otherInstances?.suspectStray();
      const online = error instanceof ChatError && error.errno === Errno.alreadyOnline;
      if (!online || !(await this.otherInstances?.isFree(userId, device))) throw error;
      return open();
    }
  }

  /** The answer to the login is written: pushes follow, and those who list the user are told. */
  begin(session: Session): void {
    if (session.ended) return;
    session.ready = true;
    this.resume(session);
    this.presence.came(session.userId);
  }

  /** Pushing to the connection may resume. */
  resume(session: Session): void {
    this.delivery.wake(session);
    this.presence.tellMissed(session);
  }

  /** Ends a session whose device another login owns now; resolves when its positions are saved, or cannot be. */
  async replace(session: Session): Promise<void> {
    session.connection.retire(replacedNotice());
    this.end(session);
    await this.untilSaved(session, null);
  }

  /** The store says that another instance owns the device, which has not asked for the positions: see `untilAsked`. */
  replaceUnasked(session: Session): void {
    // How long the new owner has been pushing is unknown: unless it asks, better deliver twice than not at all.
    session.disowned = this.otherInstances !== null;
    if (this.otherInstances?.canAsk) session.asked = Promise.withResolvers();
    this.replace(session);
  }

  /** Another instance has committed the device's login `epoch`; resolves when what was delivered here is saved. */
  async yield(userId: number, device: string, epoch: number): Promise<void> {
    const session = this.router.get(userId, device);
    if (session === undefined || session.epoch === 0) {
      if (session !== undefined) session.outdoneBy = Math.max(session.outdoneBy, epoch);
      this.leaving.get(`${userId}/${device}`)?.session.asked?.resolve();
      // Its login may already be committed with a lower epoch, and then still awaits its predecessor's positions.
      await this.opening.get(`${userId}/${device}`);
      if (session !== undefined && session.epoch < epoch) await session.handover;
      await this.untilSaved({ userId, device }, session?.connection ?? null);
    } else if (session.epoch < epoch) await this.replace(session);
  }

  /** Whether a session of the device is here, or has ended and still has positions to save. */
  holds(userId: number, device: string): boolean {
    return this.router.get(userId, device) !== undefined || this.leaving.has(`${userId}/${device}`);
  }

  /** The epoch of the device's session here; 0 where it has none, or not yet. */
  epochOf(userId: number, device: string): number {
    return this.router.get(userId, device)?.epoch ?? 0;
  }

  /** Resolves when the positions of all ended sessions are saved, or cannot be. */
  async saved(): Promise<void> {
    await Promise.all([...this.leaving.values()].map((each) => each.saved));
  }

  /** Ends all sessions with `lastText`. None of their positions is written: others may own the devices by now. */
  abandon(lastText: string): void {
    const all = [...this.byConnection.values()];
    for (const session of [...all, ...[...this.leaving.values()].map((each) => each.session)])
      session.deviceId = session.epoch = 0;
    this.cursors.forget();
    for (const { connection } of all) connection.finish(lastText);
    this.presence.forget();
  }

  /** Ends a session by logout; resolves when other instances see that, or after 1 s: the store may be away. */
  async logOut(session: Session): Promise<void> {
    const { connection } = session;
    const seen = this.end(session);
    if (this.otherInstances === null) return;
    const late = setTimeout(() => this.byConnection.has(connection) || connection.giveUp(), LEAVE_MS);
    connection.whenFlushed().then(() => clearTimeout(late));
    await Promise.race([seen, Bun.sleep(HANDOVER_MS)]);
  }

  /**
   * From now on nothing is pushed; positions are saved once pending output is accepted. Resolves when they are, and
   * other instances see the end of the session.
   */
  async end(session: Session): Promise<void> {
    if (session.ended) return;
    const { connection, userId, device } = session;
    session.ended = true;
    this.byConnection.delete(connection);
    connection.anonymousSince = performance.now();
    connection.idleTimeoutApplies = false;
    const last = this.router.remove(session);
    if (last) this.presence.went(userId);
    const key = `${userId}/${device}`;
    // A session whose handover is under way first waits for its predecessor's positions.
    const handover = Promise.resolve(session.epoch > 0 || this.opening.get(key)).then(() => session.handover);
    const saved = Promise.all([connection.whenFlushed(), this.leaving.get(key)?.saved, handover])
      .then(() => this.untilAsked(session))
      .then(() => this.cursors.save([session]))
      .then(() => {
        if (this.leaving.get(key)?.session === session) this.leaving.delete(key);
      });
    this.leaving.set(key, { session, saved });
    await saved;
    await this.release(session, last);
  }

  /** Waits for the new owner to ask, which it does right after its login, and for no longer than that waits itself. */
  private async untilAsked(session: Session): Promise<void> {
    const { asked } = session;
    if (asked === null) return;
    const isLate = Bun.sleep(HANDOVER_MS).then(() => true);
    session.disowned = await Promise.race([asked.promise.then(() => false), isLate]);
  }

  private async release(session: Session, last: boolean): Promise<void> {
    if (session.epoch === 0 || session.released || this.otherInstances === null) return;
    session.released = true;
    await this.otherInstances.release(session);
    // Only now: when two instances lose the user at the same time, the last to leave must see nobody.
    if (last) this.presence.announce(session.userId);
  }

  /**
   * Waits until the device's previous session has saved its positions. If that takes too long its connection is reset,
   * unless it is `connection`, the new session's: there, its output precedes the answer to this login anyway.
   */
  private async untilSaved({ userId, device }: Located, connection: Connection | null): Promise<void> {
    const left = this.leaving.get(`${userId}/${device}`);
    if (left === undefined) return;
    const old = left.session.connection;
    const cut = old === connection ? undefined : setTimeout(() => old.terminate(), HANDOVER_MS);
    await left.saved;
    clearTimeout(cut);
  }
}

const hasHungUp = ({ connection: { peerEndedAt } }: Session): boolean =>
  peerEndedAt !== null && performance.now() - peerEndedAt > HUNG_UP_MS;
