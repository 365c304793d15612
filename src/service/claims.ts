// Enters the sessions of this instance at Redis: all of them when it has been emptied or was away, and otherwise all of
// them again and again, a few at a time. What it has lost without anybody's notice, by eviction, by the time limit of its
// entries or in a change of its master, comes back so; until then its users are reached by the commit log alone.
import type { Session } from "./session.ts";

/** Sessions entered at once. */
const AT_ONCE = 500;

export class Claims {
  private claiming = false;
  private again = false;
  /** Those of the current round that have not had their turn. */
  private round: Session[] = [];

  constructor(
    private readonly sessions: Iterable<Session>,
    private readonly claim: (session: Session) => Promise<unknown> | undefined,
  ) {}

  /** Enters all; also those that a call before has entered already where it is still at it. */
  async all(): Promise<void> {
    this.again = true;
    if (this.claiming) return;
    this.claiming = true;
    while (this.again) {
      this.again = false;
      const left = [...this.sessions];
      while (left.length > 0 && !this.again) await this.enter(left.splice(0, AT_ONCE));
    }
    this.claiming = false;
  }

  /** Enters the next few; to be called every few seconds. */
  refresh(): void {
    if (this.claiming) return;
    if (this.round.length === 0) this.round = [...this.sessions];
    this.enter(this.round.splice(0, AT_ONCE));
  }

  private async enter(some: Session[]): Promise<void> {
    const begun = some.filter(({ epoch, ended }) => epoch > 0 && !ended);
    await Promise.all(begun.map((session) => this.claim(session)));
  }
}
