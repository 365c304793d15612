// Cursors: how far each device has been delivered to, written lazily, for all sessions together.
import type { CursorOf } from "../model/device.ts";
import type { Store } from "../model/store.ts";
import type { Log } from "./log.ts";
import type { Position, Session } from "./session.ts";

const SAVE_EVERY_MS = 1_000;

export class Cursors {
  private timer: Timer;
  /** Sessions with unsaved positions, in the order they ended. */
  private readonly ended = new Set<Session>();
  private saving: Promise<void> = Promise.resolve();
  /** The timer's save is under way. */
  private isTurn = false;
  /** Whether this instance may act: asked before every save. */
  maySave: () => boolean = () => true;
  /** Told of sessions whose device a later log-in owns: they are to end. */
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

  /** What is not saved yet of sessions that have ended is dropped. */
  forget(): void {
    for (const session of this.ended) session.deviceId = session.epoch = 0;
    this.ended.clear();
  }

  saveAll(): Promise<void> {
    return this.save(this.sessions());
  }

  /** Saves what has moved in these sessions; what cannot be saved now is tried again with the next ones. */
  save(sessions: Iterable<Session>): Promise<void> {
    this.saving = this.saving.then(() => this.saveNow([...this.ended, ...sessions]));
    return this.saving;
  }

  /** A slow store gets one of these at a time. */
  private async saveInTurn(): Promise<void> {
    if (this.isTurn) return;
    this.isTurn = true;
    await this.saveAll();
    this.isTurn = false;
  }

  private async saveNow(sessions: Session[]): Promise<void> {
    if (!this.maySave()) {
      // Those that are online are asked again; these are not.
      for (const session of sessions) if (session.ended && session.moved.size > 0) this.ended.add(session);
      return;
    }
    const saves: [number, number, CursorOf[], boolean][] = [];
    const saved: { session: Session; position: Position; seq: number }[] = [];
    for (const session of sessions) {
      if (session.moved.size === 0 || session.deviceId === 0 || session.disowned) continue;
      const cursors: CursorOf[] = [];
      for (const position of session.takeMoved()) {
        cursors.push([position.conversation, position.delivered]);
        saved.push({ session, position, seq: position.delivered });
      }
      saves.push([session.deviceId, session.epoch, cursors, session.ended && !session.unawaited]);
    }
    this.ended.clear();
    if (saves.length === 0) return;
    try {
      const refused = new Set(await this.store.saveCursors(saves));
      const replaced = new Set<Session>();
      for (const { session, position, seq } of saved)
        if (!refused.has(session.deviceId)) position.saved = seq;
        else if (!session.unawaited) {
          replaced.add(session);
          this.keep(session, position);
        }
      for (const session of replaced) if (!session.ended) this.onReplaced(session);
    } catch (error) {
      this.log.warn(`positions of ${saves.length} sessions not saved, trying again: ${(error as Error).message}`);
      for (const { session, position } of saved) this.keep(session, position);
    }
  }

  /** For the next save. */
  private keep(session: Session, position: Position): void {
    session.move(position);
    if (session.ended) this.ended.add(session);
  }
}
