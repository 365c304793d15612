// Presence: those who list a user are told when that user comes and goes. They are told the state at the time of
// sending, not each event: after a quick change back and forth the last word is right.
import type { Store } from "../model/store.ts";
import type { LocalRouter } from "../router/local.ts";
import type { Log } from "./log.ts";
import type { OtherInstances } from "./other-instances.ts";
import { presence, type State, type StateOf } from "./render.ts";
import type { Session } from "./session.ts";

const RETRY_MS = 1_000;
const NOBODY: ReadonlySet<number> = new Set();

export class Presence {
  /** The other instances; null where there are none. */
  otherInstances: OtherInstances | null = null;
  /** Users who are online here. */
  private readonly onlineHere = new Set<number>();
  /** Users whom clients here believe to be online, having been told so. */
  private readonly believedOnline = new Set<number>();
  /** Users of whom a client may have been told something else than `believedOnline`: the next look tells everybody. */
  private readonly unsure = new Set<number>();
  /** Users who may have come or gone: to be looked up. */
  private toReview = new Set<number>();
  private looking = false;
  private retry: Timer | null = null;
  private stopped = false;

  constructor(
    private readonly store: Store,
    private readonly router: LocalRouter<Session>,
    private readonly log: Log,
  ) {}

  /**
   * The states of these users, here or elsewhere, to be told to a client. A user whose login has not been answered is
   * not online yet, and may never be.
   */
  async states(userIds: number[]): Promise<StateOf> {
    const stateOf = await this.look(userIds);
    const differing = userIds.filter((id) => (stateOf(id) === "online") !== this.believedOnline.has(id));
    for (const id of differing) this.unsure.add(id);
    this.review(differing);
    return stateOf;
  }

  /** Like `states`, but never rejects: a look-up that fails is repeated later, and its result told. */
  async statesAtLast(userIds: number[]): Promise<StateOf> {
    try {
      return await this.states(userIds);
    } catch {
      for (const id of userIds) this.unsure.add(id);
      this.review(userIds);
      return (id) => (this.onlineHere.has(id) ? "online" : "offline");
    }
  }

  /** All sessions here have ended: nobody believes anybody online. */
  forget(): void {
    this.believedOnline.clear();
    this.unsure.clear();
  }

  /** From now on nobody is told anything. */
  stop(): void {
    this.stopped = true;
  }

  /** A session of the user has begun here. */
  came(userId: number): void {
    this.onlineHere.add(userId);
    this.announce(userId);
  }

  /** The user's last session here has ended. */
  went(userId: number): void {
    this.onlineHere.delete(userId);
    if (this.otherInstances === null) this.announce(userId);
  }

  /** The user's coming or going is visible to other instances now: all instances look. */
  announce(userId: number): void {
    this.otherInstances?.announce(userId);
    this.review([userId]);
  }

  /** Looks up these users' states, and tells those who list them here of changes. Retries by itself. */
  async review(userIds: number[]): Promise<void> {
    for (const id of userIds) this.toReview.add(id);
    if (this.looking) return;
    this.looking = true;
    while (this.toReview.size > 0 && !this.stopped) {
      const ids = [...this.toReview];
      this.toReview = new Set();
      try {
        const stateOf = await this.look(ids);
        const settled = await Promise.allSettled(ids.map((id) => this.settle(id, stateOf(id))));
        // Only after all have settled: one still under way could overwrite what the next look finds.
        for (const each of settled) if (each.status === "rejected") throw each.reason;
      } catch (error) {
        this.log.warn(`presence of ${ids.length} users not sent yet, trying again: ${(error as Error).message}`);
        for (const id of ids) this.toReview.add(id);
        this.retry ??= setTimeout(() => {
          this.retry = null;
          this.review([]);
        }, RETRY_MS);
        break;
      }
    }
    this.looking = false;
  }

  private async look(userIds: number[]): Promise<StateOf> {
    const away = this.otherInstances === null ? [] : userIds.filter((id) => !this.onlineHere.has(id));
    const online = away.length > 0 ? await this.otherInstances!.online(away) : NOBODY;
    return (id): State => (this.onlineHere.has(id) || online.has(id) ? "online" : "offline");
  }

  /** Tells those who list the user, if they believe another state, or may. */
  private async settle(userId: number, state: State): Promise<void> {
    if ((state === "online") === this.believedOnline.has(userId) && !this.unsure.has(userId)) return;
    if (state === "offline" && this.isEntering(userId)) return void setTimeout(() => this.review([userId]), RETRY_MS);
    const followers = await this.store.listedBy(userId);
    this.unsure.delete(userId);
    if (state === "online") this.believedOnline.add(userId);
    else this.believedOnline.delete(userId);
    for (const follower of followers) for (const session of this.router.of(follower)) this.tell(session, userId, state);
  }

  /** Whether a login of the user is under way here: a user moving over from another instance was not offline. */
  private isEntering(userId: number): boolean {
    for (const { ready, ended } of this.router.of(userId)) if (!ready && !ended) return true;
    return false;
  }

  /** Tells the session what changed while it could not be told. */
  async tellMissed(session: Session): Promise<void> {
    if (session.missedPresence.size === 0 || session.ended) return;
    const missed = session.takeMissedPresence();
    try {
      const stateOf = await this.states(missed);
      for (const userId of missed) this.tell(session, userId, stateOf(userId));
    } catch (error) {
      this.log.warn(`presence not sent to user ${session.userId} yet, trying again: ${(error as Error).message}`);
      for (const userId of missed) session.missPresence(userId);
      setTimeout(() => this.tellMissed(session), RETRY_MS);
    }
  }

  private tell(session: Session, userId: number, state: State): void {
    if (session.ended) return;
    if (session.pushable) session.connection.push(presence(userId, state));
    else session.missPresence(userId);
  }
}
