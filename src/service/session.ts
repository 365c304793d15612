// A logged-in device and its position in each conversation it has touched.
import type { Connection } from "../net/connection.ts";
import type { Mark } from "../net/output.ts";
import { ChatError, type ConvKey, directConv, Errno, parseConv } from "../protocol.ts";
import { notice } from "./render.ts";

/** A device's position in one conversation. All seqs. */
export class Position implements Mark {
  /** Everything up to here is pushed, or not to be pushed; null until it is loaded from the device's cursor. */
  at: number | null = null;
  /** The last that was pushed. */
  pushed = 0;
  /** Everything up to here is delivered: to be saved as the device's cursor. */
  delivered = 0;
  /** What the saved cursor says. */
  saved = 0;
  /** The last that is known to be in the log. */
  head = 0;
  readonly key: ConvKey;

  constructor(
    private readonly session: Session,
    readonly conversation: number,
    readonly conv: string,
  ) {
    this.key = parseConv(conv)!;
  }

  /** Starts where the device's cursor stands. */
  start(cursor: number): void {
    this.at = this.pushed = this.delivered = this.saved = cursor;
  }

  /** `seq` is pushed. */
  pass(seq: number): void {
    this.at = this.pushed = seq;
  }

  /** `seq` is the device's own and is not pushed: delivered as soon as everything pushed before it is. */
  skip(seq: number): void {
    this.at = seq;
    if (this.delivered >= this.pushed) this.deliver(seq);
  }

  /** The peer has confirmed, or its kernel accepted, everything pushed up to `seq`. */
  deliver(seq: number): void {
    const delivered = seq >= this.pushed ? this.at! : seq;
    if (delivered <= this.delivered) return;
    this.delivered = delivered;
    this.session.move(this);
  }

  accepted(seq: number): void {
    this.deliver(seq);
  }
}

/** A direct conversation that a session writes to. */
export interface Target {
  toid: number;
  conv: string;
  key: ConvKey;
}

/** In place of a session's empty sets: nearly all are, and each would take memory. */
const NONE: ReadonlySet<never> = new Set();

/** Adds to a session's set; returns the set that has taken its place. */
const added = <T>(set: ReadonlySet<T>, value: T): ReadonlySet<T> =>
  set === NONE ? new Set([value]) : (set as Set<T>).add(value);

export class Session {
  readonly positions = new Map<number, Position>();
  readonly byConv = new Map<string, Position>();
  /** Positions with rows to be read from the store. */
  behind: ReadonlySet<Position> = NONE;
  /** Positions to be saved. */
  moved: ReadonlySet<Position> = NONE;
  /** Users on its list whose presence changed while nothing could be pushed. */
  missedPresence: ReadonlySet<number> = NONE;
  /** The answer to the log-in is written: pushes may follow. */
  ready = false;
  /** Logged out, replaced or disconnected: nothing more is pushed. */
  ended = false;
  /** The client sends no more: the connection ends when what is stored for it has been pushed. */
  halfClosed = false;
  /** A read of its backlog is under way. */
  reading = false;
  /** The store's id of the device, and the number of this log-in; 0 until it is claimed. */
  deviceId = 0;
  epoch = 0;
  /** Settles when the session that the device had at another instance has saved its positions, or is too late. */
  entered: Promise<void> | null = null;
  /** The highest epoch of another instance's log-in that wanted the device before this one had its own epoch. */
  outdoneBy = 0;
  /** Of a session that the store says is replaced elsewhere: settles when its new owner asks for its positions. */
  asked: PromiseWithResolvers<void> | null = null;
  /** The new owner has gone on without them: what was delivered here meanwhile is its own to be pushed, and is not saved. */
  disowned = false;
  /** Taken out of where the others look, or about to be. */
  left = false;
  /** The direct conversation written to last: as a rule it is the next one too. */
  private target: Target | null = null;
  /** Above this many positions, some are dropped. */
  private positionLimit = MAX_POSITIONS;

  constructor(
    readonly connection: Connection,
    readonly userId: number,
    readonly name: string,
    readonly device: string,
    /** Delivered means confirmed by the client. Otherwise: accepted by the kernel. */
    readonly confirms: boolean,
    /** The higher one came later. */
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
  lack(position: Position): void {
    this.behind = added(this.behind, position);
  }

  /** Rows have been pushed: positions that lack no more are not behind any longer. */
  catchUp(): void {
    for (const position of this.behind)
      if (position.at! >= position.head) (this.behind as Set<Position>).delete(position);
    if (this.behind.size === 0) this.behind = NONE;
  }

  /** `position` is to be saved. */
  move(position: Position): void {
    this.moved = added(this.moved, position);
  }

  /** What is to be saved, and is not any more. */
  takeMoved(): ReadonlySet<Position> {
    const { moved } = this;
    this.moved = NONE;
    return moved;
  }

  missPresence(userId: number): void {
    this.missedPresence = added(this.missedPresence, userId);
  }

  takeMissedPresence(): number[] {
    const missed = [...this.missedPresence];
    this.missedPresence = NONE;
    return missed;
  }

  /** Drops positions that their saved cursors can bring back. Seldom, because it walks over all of them. */
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

/** Positions a session holds, and a quarter more; others only while they cannot be dropped. */
const MAX_POSITIONS = 2_048;

/** Throws where the session ended while its log-in was under way. */
export function refuseEnded(session: Session): void {
  if (session.ended) throw replacedError();
}

const REPLACED = "this session was taken over by another log-in";
export const replacedNotice = (): string => notice(Errno.replaced, REPLACED);
export const replacedError = (): ChatError => new ChatError(Errno.replaced, REPLACED);
