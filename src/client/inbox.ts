// Log rows pushed by the server: each is passed on once, and confirmed if the session confirms.
import type { Message } from "../protocol.ts";

/** Rows arriving within this time, but no more than this many, are confirmed together: the connection may break. */
const CONFIRM_AFTER_MS = 50;
const CONFIRM_AFTER_ROWS = 32;
/** Conversations whose last seq is remembered; the one with the oldest last row is dropped first. */
const MAX_CONVERSATIONS = 100_000;
/** The "read up to" push: it has `conv` and `seq` but is not a row of the log. */
const READ = 1022;

export class Inbox {
  /**
   * By conversation, the last seq passed on and the highest ts. A row with a lower seq but a later ts comes from a log
   * that was reset (a backup was restored). The highest ts, not the last row's: the server's clock may have been set
   * back too.
   */
  private readonly seen = new Map<string, { seq: number; ts: number }>();
  /** Pushed on this connection and not confirmed: by conversation the last seq; `rows` counts them. */
  private readonly unconfirmed = new Map<string, number>();
  private rows = 0;
  private timer: Timer | null = null;

  constructor(private readonly confirm: (conv: string, seq: number) => void) {}

  /** Takes a push; false where it was passed on before. A conversation's rows come in ascending seq. */
  take({ msgId, conv, seq, ts }: Message, confirms: boolean): boolean {
    if (typeof conv !== "string" || typeof seq !== "number" || msgId === READ) return true;
    if (confirms) {
      // Confirms earlier ones only: this one has not been passed on yet.
      if (this.rows === CONFIRM_AFTER_ROWS) this.confirmNow();
      this.rows++;
      // Repeated ones too: the server that pushed them does not know of the confirmation.
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

  /** The connection is gone: what was pushed on it and not confirmed comes again. */
  disconnected(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    this.unconfirmed.clear();
    this.rows = 0;
  }

  /** Another user or device is logged in from now on. */
  forget(): void {
    this.seen.clear();
  }
}
