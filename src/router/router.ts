// What instances tell each other. Losing any of it costs only latency: the store's commit log, which every instance
// reads, brings it again.
import type { LogRow } from "../db/db.ts";

/** A committed row, with what its receivers' instances need to push it. */
export interface Hint {
  row: LogRow;
  conv: string;
  /** The sender's name. */
  name: string;
  /** The version of a group's member list when the row was committed. */
  memberVersion: number;
}

/** A hint and the users in its conversation. */
export interface Addressed {
  hint: Hint;
  receivers: number[];
}

/** A login. Of several, the one with the highest epoch owns the device. */
export interface Owner {
  userId: number;
  device: string;
  epoch: number;
}

/** What arrives from other instances. */
export interface RouterEvents {
  onHints(hints: Hint[]): void;
  /** Another instance has committed a newer login of the device: end the session here; `done` when that is saved. */
  onKick(owner: Owner, done: () => void): void;
  /** The user's first session anywhere has begun, or the last has ended: this does not say which, so look. */
  onPresence(userId: number): void;
  /** The registry has lost, or may have missed, what it was told: `claim` every session again. */
  onReset(): void;
}

export interface Router {
  /** Resolves when it can be used; rejects with the reason after `ms`. */
  ready(ms: number): Promise<void>;
  /** Enters a committed login; never replaces a newer one. */
  claim(owner: Owner): Promise<void>;
  /** Removes the entry of a login at `boot` (default: this one), unless a newer login is entered. */
  release(owner: Owner, boot?: string): Promise<void>;
  /** Asks `boot` to end its session of the device; resolves when its positions are saved, or after `ms`. */
  kick(boot: string, owner: Owner, ms: number): Promise<void>;
  /** Forwards hints to the boots where their receivers have sessions; one message per boot. */
  forward(hints: Addressed[]): Promise<void>;
  /** Tells every instance that the user came or went. */
  announce(userId: number): void;
  /** Whether messages of the other instances arrive here. */
  readonly hears: boolean;
  close(): Promise<void>;
}
