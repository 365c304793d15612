// What sessions and presence need of the other instances that share the store.
import type { Session } from "./session.ts";

export interface Elsewhere {
  /** Whether the new owner of a device can ask the old one for its positions; else it waits for a second. */
  readonly asks: boolean;
  /**
   * The log-in is committed: enters it where the others look, and ends the session that the device had at the boot
   * `from` ("": nowhere). Resolves when that one's positions are saved, or after a second.
   */
  entered(session: Session, from: string): Promise<void>;
  /** The session has ended and its positions are saved: resolves when the others do not find it any more. */
  left(session: Session): Promise<void>;
  /** A log-in may be committed that has no session here: it is looked for. */
  doubt(): void;
  /** Whether nobody alive holds this device, which seemed to be online elsewhere: the process there may have died. */
  isFree(userId: number, device: string): Promise<boolean>;
  /** Those of these users that are online at another instance. */
  online(userIds: number[]): Promise<ReadonlySet<number>>;
  /** Tells the others that this user came or went. */
  announce(userId: number): void;
}
