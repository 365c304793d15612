// Whether this instance is in contact with the store that it shares, and so may act.
//
// Others may take an instance over as soon as its lease has expired: it was paused, or cannot reach the database. It
// cannot know whether they have, so it freezes: its clients stay, but nothing is pushed, no position is saved, and what
// needs the store is refused. When the database answers again, either it was taken over (its row is gone: it starts
// over), or not.
//
// Why an instance that was not taken over may go on, with nothing lost or doubled and no session with two owners:
// - Batches, saved positions and logins are transactions that fail once a boot's lanes are fenced, even if sent before
//   the freeze. So an ack always reports what is committed, whenever it is sent.
// - Logins of a device elsewhere have a higher epoch in the store. Before anything is pushed again, the epochs of all
//   sessions here are compared with the store's.
// - A session's position has moved only past what was pushed. What was committed meanwhile is read: from the session's
//   own notes of what it lacks where it was committed here, else from the commit log.
import type { Shared } from "../db/db.ts";
import type { Log } from "./log.ts";

const RETRY_MS = 500;

export interface ContactEvents {
  /** Ends sessions whose devices others own by now. Rejects where the store cannot be asked. */
  endReplaced(): Promise<void>;
  /** Acting resumes: what was missed is to be read. */
  onThawed(): void;
}

export class Contact {
  private frozen = false;
  private thawing = false;
  /** How many times the lease has been regained. */
  private regained = 0;

  constructor(
    private readonly store: Shared,
    private readonly events: ContactEvents,
    private readonly log: Log,
  ) {
    store.onRegained(() => this.thaw());
  }

  /**
   * Whether this instance may act. To be asked before every action: after a pause, input from the sockets is handled
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
    this.log.warn(
      "the database has not renewed this instance's lease in time: clients stay connected and wait until it does",
    );
  }

  /** The lease is valid again. Freezes first, even if nobody had noticed that it was not. */
  private async thaw(): Promise<void> {
    this.regained++;
    this.freeze();
    if (this.thawing) return;
    this.thawing = true;
    const { boot } = this.store;
    while (this.frozen && this.store.boot === boot && this.store.leaseValid()) {
      const { regained } = this;
      try {
        await this.events.endReplaced();
      } catch (error) {
        this.log.warn(`sessions not compared with the database yet, trying again: ${(error as Error).message}`);
        await Bun.sleep(RETRY_MS);
        continue;
      }
      // A comparison made before another gap proves nothing.
      if (regained === this.regained && this.store.boot === boot && this.store.leaseValid()) this.frozen = false;
    }
    this.thawing = false;
    if (this.frozen) return;
    this.log.info("the database has renewed the lease: serving again");
    this.events.onThawed();
  }
}
