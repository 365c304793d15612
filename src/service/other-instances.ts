// What sessions and presence need from the other instances that share the store.
import type { Session } from "./session.ts";

export interface OtherInstances {
  /** Whether a device's new owner can ask the old one for its positions; if not, it waits for a second. */
  readonly canAsk: boolean;
  /**
   * The login is committed: makes it visible to the others, and ends the session that the device had at the boot
   * `from` ("": none). Resolves when that session's positions are saved, or after a second.
   */
  claim(session: Session, from: string): Promise<void>;
  /** The session has ended and its positions are saved: resolves when the others no longer find it. */
  release(session: Session): Promise<void>;
  /** A login without a session here may be committed: it is looked for. */
  suspectStray(): void;
  /** Whether no living instance holds this device, which seemed online elsewhere: that process may have died. */
  isFree(userId: number, device: string): Promise<boolean>;
  /** Those of these users who are online at another instance. */
  online(userIds: number[]): Promise<ReadonlySet<number>>;
  /** Tells the others that this user came or went. */
  announce(userId: number): void;
}
