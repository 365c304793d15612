// Whether this instance is in contact with the store that it shares, so that it may act.
//
// Others may take an instance over as soon as its lease is too old: because it was paused, or cannot reach the database. It
// cannot know then whether they have, so it freezes: its clients stay, but nothing is pushed, no position is saved and what
// needs the store is refused. When the database answers again, it was taken over (its row is gone: it starts over), or not.
//
// Why an instance that was not taken over may go on, without anything lost or doubled, or a session with two owners:
// - A batch, a saved position and a log-in are transactions that fail in a boot whose lanes are fenced, also when they were
//   sent before the freeze. So an ack always tells what is committed, and its time does not matter.
// - A device is logged in elsewhere by a higher epoch in the store. Before anything is pushed again, the epochs of all
//   sessions here are compared with the store's.
// - A session's position has moved only with what was pushed. What was committed meanwhile is read: here from the
//   session's own notes of what it lacks, elsewhere from the commit log.
import type { Shared } from "../db/db.ts";
import type { Log } from "./log.ts";

const RETRY_MS = 500;

export interface ContactEvents {
  /** Ends the sessions whose devices others own by now. Rejects where the store cannot be asked. */
  compare(): Promise<void>;
  /** Acting goes on: to read what was missed. */
  onThawed(): void;
}

export class Contact {
  private frozen = false;
  private thawing = false;
  /** How many times the lease was regained. */
  private regained = 0;

  constructor(
    private readonly store: Shared,
    private readonly events: ContactEvents,
    private readonly log: Log,
  ) {
    store.onRegained(() => this.thaw());
  }

  /**
   * Whether this instance may act. To be asked before every action, because after a pause what arrived at the sockets comes
   * before any timer that would notice.
   */
  get alive(): boolean {
    if (this.frozen) return false;
    if (this.store.leaseValid()) return true;
    this.freeze();
    return false;
  }

  /** A new boot has begun, without sessions. */
  reset(): void {
    this.frozen = false;
  }

  private freeze(): void {
    if (this.frozen) return;
    this.frozen = true;
    this.log.warn("the database has not confirmed the lease in time: clients stay, and wait until it does");
  }

  /** Also where nobody had noticed that the lease was too old. */
  private async thaw(): Promise<void> {
    this.regained++;
    this.freeze();
    if (this.thawing) return;
    this.thawing = true;
    const { boot } = this.store;
    while (this.frozen && this.store.boot === boot && this.store.leaseValid()) {
      const { regained } = this;
      try {
        await this.events.compare();
      } catch (error) {
        this.log.warn(`sessions not compared with the database yet: ${(error as Error).message}`);
        await Bun.sleep(RETRY_MS);
        continue;
      }
      // What was read before another gap says nothing.
      if (regained === this.regained && this.store.boot === boot && this.store.leaseValid()) this.frozen = false;
    }
    this.thawing = false;
    if (this.frozen) return;
    this.log.info("the database has confirmed the lease: going on");
    this.events.onThawed();
  }
}
