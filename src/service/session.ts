// A logged-in device, and its position in each conversation it has touched.
import type { Connection } from "../net/connection.ts";
import type { Mark } from "../net/output.ts";
import { ChatError, type ConvKey, directConv, Errno, parseConv } from "../protocol.ts";
import { notice } from "./render.ts";

/** A device's position in one conversation. All numbers are seqs. */
export class Position implements Mark {
  /** Everything up to here has been pushed or is not to be; null until loaded from the device's cursor. */
  at: number | null = null;
  /** The last seq pushed. */
  pushed = 0;
  /** Everything up to here is delivered; saved as the device's cursor. */
  delivered = 0;
  /** The value of the saved cursor. */
  saved = 0;
  /** The last seq known to be in the log. */
  head = 0;
  readonly key: ConvKey;

  constructor(
    private readonly session: Session,
    readonly conversation: number,
    readonly conv: string,
  ) {
    this.key = parseConv(conv)!;
  }

  /** Starts at the device's cursor. */
  start(cursor: number): void {
    this.at = this.pushed = this.delivered = this.saved = cursor;
  }

  /** `seq` has been pushed. */
  markPushed(seq: number): void {
    this.at = this.pushed = seq;
  }

  /** `seq` was sent by this device and is not pushed: it is delivered as soon as everything pushed before it is. */
  skip(seq: number): void {
    this.at = seq;
    if (this.delivered >= this.pushed) this.markDelivered(seq);
  }

  /** The client has confirmed, or the kernel accepted, everything pushed up to `seq`. */
  markDelivered(seq: number): void {
    const delivered = seq >= this.pushed ? this.at! : seq;
    if (delivered <= this.delivered) return;
    this.delivered = delivered;
    this.session.markUnsaved(this);
  }

  accepted(seq: number): void {
    this.markDelivered(seq);
  }
}

/** A direct conversation that a session writes to. */
export interface Target {
  toid: number;
  conv: string;
  key: ConvKey;
}

/** Stands for a session's empty sets: nearly all are empty, and each would take memory. */
const NONE: ReadonlySet<never> = new Set();

/** Adds to a session's set; returns the set to replace it with. */
const added = <T>(set: ReadonlySet<T>, value: T): ReadonlySet<T> =>
  set === NONE ? new Set([value]) : (set as Set<T>).add(value);

export class Session {
  readonly positions = new Map<number, Position>();
  readonly byConv = new Map<string, Position>();
  /** Positions with rows still to be read from the store. */
  behind: ReadonlySet<Position> = NONE;
  /** Positions to be saved. */
  unsaved: ReadonlySet<Position> = NONE;
  /** Users on its list whose presence changed while nothing could be pushed. */
  missedPresence: ReadonlySet<number> = NONE;
  /** The answer to the login is written: pushes may follow. */
  ready = false;
  /** Logged out, replaced or disconnected: nothing more is pushed. */
  ended = false;
  /** The client has sent FIN: the connection ends when what is stored for it has been pushed. */
  halfClosed = false;
  /** A read of its backlog is under way. */
  reading = false;
  /** The device's id in the store, and the number of this login; 0 until it is committed. */
  deviceId = 0;
  epoch = 0;
  /** Resolves when the device's session at another instance has saved its positions, or has taken too long. */
  handover: Promise<void> | null = null;
  /** The highest epoch of another instance's login that wanted the device before this session had its own. */
  outdoneBy = 0;
  /** In a session replaced elsewhere according to the store: settles when the new owner asks for its positions. */
  asked: PromiseWithResolvers<void> | null = null;
  /** The new owner has gone on without these positions: they are not saved, since it pushes the rows itself. */
  disowned = false;
  /** It has been, or is being, withdrawn from where other instances look. */
  released = false;
  /** The direct conversation written to last: usually the next one too. */
  private target: Target | null = null;
  /** When there are more positions than this, some are dropped. */
  private positionLimit = MAX_POSITIONS;

  constructor(
    readonly connection: Connection,
    readonly userId: number,
    readonly name: string,
    readonly device: string,
    /** Whether delivered means confirmed by the client; otherwise: accepted by the kernel. */
    readonly confirms: boolean,
    /** From Sessions.nextOrder: a later login has a higher one. */
    readonly order: number,
  ) {}

  get pushable(): boolean {
    return this.ready && !this.ended && this.connection.writable;
  }

  targetOf(toid: number): Target {
    if (this.target?.toid === toid) return this.target;
    const { userId } = this;
    const key: ConvKey = { kind: "u", lo: Math.min(toid, userId), hi: Math.max(toid, userId) };
    this.target = { toid, conv: directConv(toid, userId), key };
    return this.target;
  }

  position(conversation: number, conv: string): Position {
    let position = this.positions.get(conversation);
    if (position === undefined) {
      position = new Position(this, conversation, conv);
      this.positions.set(conversation, position);
      this.byConv.set(conv, position);
      if (this.positions.size > this.positionLimit) this.forgetSaved();
    }
    return position;
  }

  /** `position` has rows to be read from the store. */
  markBehind(position: Position): void {
    this.behind = added(this.behind, position);
  }

  /** Rows have been pushed: positions that lack none are no longer behind. */
  dropCaughtUp(): void {
    for (const position of this.behind)
      if (position.at! >= position.head) (this.behind as Set<Position>).delete(position);
    if (this.behind.size === 0) this.behind = NONE;
  }

  /** `position` is to be saved. */
  markUnsaved(position: Position): void {
    this.unsaved = added(this.unsaved, position);
  }

  /** Returns the positions to be saved and empties their set. */
  takeUnsaved(): ReadonlySet<Position> {
    const { unsaved } = this;
    this.unsaved = NONE;
    return unsaved;
  }

  missPresence(userId: number): void {
    this.missedPresence = added(this.missedPresence, userId);
  }

  takeMissedPresence(): number[] {
    const missed = [...this.missedPresence];
    this.missedPresence = NONE;
    return missed;
  }

  /** Drops positions that their saved cursors can restore. Called seldom, because it visits all of them. */
  private forgetSaved(): void {
    for (const [conversation, position] of this.positions) {
      if (this.positions.size <= MAX_POSITIONS) break;
      const { at, saved, head } = position;
      if (at === null || saved !== at || head > at || this.behind.has(position)) continue;
      this.positions.delete(conversation);
      this.byConv.delete(position.conv);
    }
    this.positionLimit = this.positions.size + MAX_POSITIONS / 4;
  }
}

/** Positions a session keeps, and up to a quarter more; beyond that, only such as cannot be dropped. */
const MAX_POSITIONS = 2_048;

/** Throws errno 21 where the session ended while its login was under way. */
export function refuseEnded(session: Session): void {
  if (session.ended) throw replacedError();
}

const REPLACED = "this session was taken over by another login";
export const replacedNotice = (): string => notice(Errno.replaced, REPLACED);
export const replacedError = (): ChatError => new ChatError(Errno.replaced, REPLACED);
