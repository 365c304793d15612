// Keeps this instance's sessions entered in Redis: all of them at once when it has been emptied or was away, and
// otherwise again and again, a few at a time. So entries lost unnoticed (evicted, expired, or lost in a failover) come
// back; until then their users are reached by the commit log alone.
import type { Session } from "./session.ts";

/** Sessions entered at a time. */
const AT_ONCE = 500;

export class Claims {
  private claiming = false;
  private again = false;
  /** Sessions whose turn in the current round is still to come. */
  private round: Session[] = [];

  constructor(
    private readonly sessions: Iterable<Session>,
    private readonly claim: (session: Session) => Promise<unknown> | undefined,
  ) {}

  /** Enters all sessions; starts over where an earlier call is still under way. */
  async claimAll(): Promise<void> {
    this.again = true;
    if (this.claiming) return;
    this.claiming = true;
    while (this.again) {
      this.again = false;
      const left = [...this.sessions];
      while (left.length > 0 && !this.again) await this.claimSome(left.splice(0, AT_ONCE));
    }
    this.claiming = false;
  }

  /** Enters the next few; to be called every few seconds. */
  refresh(): void {
    if (this.claiming) return;
    if (this.round.length === 0) this.round = [...this.sessions];
    this.claimSome(this.round.splice(0, AT_ONCE));
  }

  private async claimSome(some: Session[]): Promise<void> {
    const begun = some.filter(({ epoch, ended }) => epoch > 0 && !ended);
    await Promise.all(begun.map((session) => this.claim(session)));
  }
}
