// Presence: who lists a user is told when that user comes and goes. Says how things are when it is sent, not what
// happened: of a quick change back and forth the last word is right.
import type { Store } from "../model/store.ts";
import type { LocalRouter } from "../router/local.ts";
import type { Log } from "./log.ts";
import { presence, type State } from "./render.ts";
import type { Session } from "./session.ts";

/** Presence changes kept for a session that cannot be pushed to. */
const MAX_MISSED = 1_000;

export class Presence {
  /** Users whose followers are being looked up; true where they changed again meanwhile. */
  private readonly lookups = new Map<number, boolean>();

  /** Users whose followers have been told that they are online. */
  private readonly shown = new Set<number>();
  private stopped = false;

  constructor(
    private readonly store: Store,
    private readonly router: LocalRouter<Session>,
    private readonly log: Log,
  ) {}

  /** As it has been told: who has not got the answer to a log-in is not online yet, and may never be. */
  readonly stateOf = (userId: number): State => (this.shown.has(userId) ? "online" : "offline");

  /** From now on nobody is told. */
  stop(): void {
    this.stopped = true;
  }

  /** A session of the user has begun. */
  came(userId: number): void {
    if (this.shown.has(userId)) return;
    this.shown.add(userId);
    this.announce(userId);
  }

  /** The user's last session has ended. */
  went(userId: number): void {
    if (this.shown.delete(userId)) this.announce(userId);
  }

  private async announce(userId: number): Promise<void> {
    if (this.stopped) return;
    if (this.lookups.has(userId)) {
      this.lookups.set(userId, true);
      return;
    }
    this.lookups.set(userId, false);
    try {
      for (const follower of await this.store.listedBy(userId))
        for (const session of this.router.of(follower)) this.tell(session, userId);
    } catch (error) {
      this.log.warn(`presence of user ${userId} not announced: ${(error as Error).message}`);
    }
    const again = this.lookups.get(userId);
    this.lookups.delete(userId);
    if (again) this.announce(userId);
  }

  /** What changed while the session could not be told. */
  catchUp(session: Session): void {
    for (const userId of session.missedPresence) {
      if (!session.pushable) return;
      session.missedPresence.delete(userId);
      this.tell(session, userId);
    }
  }

  private tell(session: Session, userId: number): void {
    if (session.ended) return;
    if (session.pushable) session.connection.push(presence(userId, this.stateOf(userId)));
    else if (session.missedPresence.size < MAX_MISSED) session.missedPresence.add(userId);
  }
}
