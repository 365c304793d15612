// Rows that the server pushes: each is passed on once, and confirmed where the session confirms.
import type { Message } from "../protocol.ts";

/** Rows that arrive within this time are confirmed together, but no more than so many: a connection may not last as long. */
const CONFIRM_AFTER_MS = 50;
const CONFIRM_AFTER_ROWS = 32;
/** Conversations whose last seq is kept; the one longest without a message goes first. */
const MAX_CONVERSATIONS = 100_000;
/** Read up to: as the peer's request, no row of the log. */
const READ = 1022;

export class Inbox {
  /**
   * By conversation, the last seq passed on, and the latest ts: a younger row of a lower seq is of a log that was set back
   * (a backup was restored). The latest, not the last row's: the server's clock may have been set back too.
   */
  private readonly seen = new Map<string, { seq: number; ts: number }>();
  /** What this connection was pushed and has not confirmed: up to which seq, and how many rows. */
  private readonly unconfirmed = new Map<string, number>();
  private rows = 0;
  private timer: Timer | null = null;

  constructor(private readonly confirm: (conv: string, seq: number) => void) {}

  /** Takes a push; false where it was passed on before. A conversation's rows come in ascending seq. */
  take({ msgId, conv, seq, ts }: Message, confirms: boolean): boolean {
    if (typeof conv !== "string" || typeof seq !== "number" || msgId === READ) return true;
    if (confirms) {
      // Those before this one, which is not passed on yet.
      if (this.rows === CONFIRM_AFTER_ROWS) this.confirmNow();
      this.rows++;
      // Also what was seen before: the server that pushed it does not know.
      this.unconfirmed.set(conv, seq);
      this.timer ??= setTimeout(() => this.confirmNow(), CONFIRM_AFTER_MS);
    }
    const at = typeof ts === "number" ? ts : 0;
    const last = this.seen.get(conv) ?? { seq: 0, ts: 0 };
    if (seq <= last.seq && at <= last.ts) return false;
    this.seen.delete(conv);
    this.seen.set(conv, { seq, ts: Math.max(at, last.ts) });
    if (this.seen.size > MAX_CONVERSATIONS) this.seen.delete(this.seen.keys().next().value!);
    return true;
  }

  confirmNow(): void {
    for (const [conv, seq] of this.unconfirmed) this.confirm(conv, seq);
    this.disconnected();
  }

  /** The connection is gone: what it was pushed and is not confirmed comes again. */
  disconnected(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    this.unconfirmed.clear();
    this.rows = 0;
  }

  /** Somebody else, or another device, is logged in from now on. */
  forget(): void {
    this.seen.clear();
  }
}
