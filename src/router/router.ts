// What one instance tells the others. Whatever is lost on this way costs latency alone: the store's commit log, which
// every instance reads, brings it again.
import type { LogRow } from "../db/db.ts";

/** A row that was committed, with what its receivers' instances need to push it. */
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

/** Who is logged in: the device's owner is the log-in with the higher epoch. */
export interface Owner {
  userId: number;
  device: string;
  epoch: number;
}

/** What arrives from other instances. */
export interface RouterEvents {
  onHints(hints: Hint[]): void;
  /** Another instance has committed a newer log-in of this device: the session here ends; `done` when its cursors are saved. */
  onKick(owner: Owner, done: () => void): void;
  /** The user's first session anywhere has begun, or the last has ended: look, this says not which. */
  onPresence(userId: number): void;
  /** The registry has lost, or may have missed, what it was told: `claim` every session again. */
  onReset(): void;
}

export interface Router {
  /** Waits until it can be used; rejects after `ms` with the reason. */
  ready(ms: number): Promise<void>;
  /** Enters a log-in that is committed; never over a newer one. */
  claim(owner: Owner): Promise<void>;
  /** Takes a log-in at `boot` (this one, unless said otherwise) out, unless a newer one is entered. */
  release(owner: Owner, boot?: string): Promise<void>;
  /** Asks `boot` to end its session of the device; resolves when it has, or after `ms`. */
  kick(boot: string, owner: Owner, ms: number): Promise<void>;
  /** Passes hints on to the boots of their receivers' sessions; one message a boot. */
  forward(hints: Addressed[]): Promise<void>;
  /** Tells every instance that somebody came or went. */
  announce(userId: number): void;
  /** Whether what others publish arrives here. */
  readonly hears: boolean;
  close(): Promise<void>;
}
