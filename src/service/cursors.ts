// Cursors: how far each device has been delivered to; written lazily, for all sessions together.
import type { CursorOf } from "../model/device.ts";
import type { Store } from "../model/store.ts";
import type { Log } from "./log.ts";
import type { Position, Session } from "./session.ts";

const SAVE_EVERY_MS = 1_000;
/** Positions per transaction; the last session's may exceed it. */
const SAVED_AT_ONCE = 5_000;

interface Saved {
  session: Session;
  position: Position;
  seq: number;
}

export class Cursors {
  private timer: Timer;
  /** Ended sessions with unsaved positions, in the order they ended. */
  private readonly ended = new Set<Session>();
  private saving: Promise<void> = Promise.resolve();
  /** The next save, waiting for the one under way, and the sessions gathered for it. */
  private next: { sessions: Set<Session>; saved: Promise<void> } | null = null;
  /** The timer's save is under way. */
  private isTurn = false;
  /** Whether this instance may act; asked before every save. */
  maySave: () => boolean = () => true;
  /** Called with sessions whose device a later login owns: they must end. */
  onReplaced: (session: Session) => void = () => undefined;

  constructor(
    private readonly store: Store,
    private readonly sessions: () => Iterable<Session>,
    private readonly log: Log,
  ) {
    this.timer = setInterval(() => this.saveInTurn(), SAVE_EVERY_MS);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** Drops the unsaved positions of ended sessions. */
  forget(): void {
    for (const session of this.ended) session.deviceId = session.epoch = 0;
    this.ended.clear();
  }

  saveAll(): Promise<void> {
    return this.save(this.sessions());
  }

  /** Saves the unsaved positions of these sessions; what cannot be saved now is retried with the next save. */
  save(sessions: Iterable<Session>): Promise<void> {
    if (this.next === null) {
      const gathered = new Set<Session>();
      this.saving = this.saving.then(() => {
        this.next = null;
        return this.saveNow(new Set([...this.ended, ...gathered]));
      });
      this.next = { sessions: gathered, saved: this.saving };
    }
    for (const session of sessions) this.next.sessions.add(session);
    return this.next.saved;
  }

  /** The timer's save; skipped while its last one is under way, so that a slow store gets one at a time. */
  private async saveInTurn(): Promise<void> {
    if (this.isTurn) return;
    this.isTurn = true;
    await this.saveAll();
    this.isTurn = false;
  }

  private async saveNow(sessions: Iterable<Session>): Promise<void> {
    this.ended.clear();
    let portion: Saved[] = [];
    let isSaving = this.maySave();
    for (const session of sessions) {
      if (session.unsaved.size === 0 || session.deviceId === 0 || session.disowned) continue;
      if (isSaving)
        for (const position of session.takeUnsaved()) portion.push({ session, position, seq: position.delivered });
      // Sessions that are online are offered again by the next save; ended ones would not be.
      else if (session.ended) this.ended.add(session);
      if (portion.length < SAVED_AT_ONCE) continue;
      isSaving = await this.savePortion(portion);
      portion = [];
    }
    if (portion.length > 0) await this.savePortion(portion);
  }

  /** `portion` holds whole sessions, one after the other. False where the store cannot be written. */
  private async savePortion(portion: Saved[]): Promise<boolean> {
    const saves: [number, number, CursorOf[], boolean][] = [];
    let last: Session | null = null;
    for (const { session, position, seq } of portion) {
      if (session !== last) saves.push([session.deviceId, session.epoch, [], session.ended]);
      last = session;
      saves.at(-1)![2].push([position.conversation, seq]);
    }
    try {
      const refused = new Set(await this.store.saveCursors(saves));
      const replaced = new Set<Session>();
      for (const { session, position, seq } of portion)
        if (refused.has(session.deviceId)) {
          replaced.add(session);
          this.keep(session, position);
        } else position.saved = seq;
      for (const session of replaced) if (!session.ended) this.onReplaced(session);
      return true;
    } catch (error) {
      this.log.warn(`positions of ${saves.length} sessions not saved, trying again: ${(error as Error).message}`);
      for (const { session, position } of portion) this.keep(session, position);
      return false;
    }
  }

  /** Keeps a position for the next save. */
  private keep(session: Session, position: Position): void {
    session.markUnsaved(position);
    if (session.ended) this.ended.add(session);
  }
}
