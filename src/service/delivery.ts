// Delivery: brings what is in the log to the sessions. Hints about new rows wake them; each session pushes only the row
// after its position, and reads what it lacks from the store. So live and stored rows, gaps, catching up after a login
// and slow readers are one mechanism, and correctness does not depend on hints.
import type { Head, LogRow } from "../db/db.ts";
import type { Want } from "../model/device.ts";
import type { Store } from "../model/store.ts";
import type { Outgoing } from "../net/encode.ts";
import { type ConvKey, parseConv } from "../protocol.ts";
import type { LocalRouter } from "../router/local.ts";
import type { Hint as RoutedHint } from "../router/router.ts";
import type { Log } from "./log.ts";
import { pushOf } from "./render.ts";
import { Reorder } from "./reorder.ts";
import type { Position, Session } from "./session.ts";

/** A row that was just committed, here or at another instance. */
export interface Hint extends RoutedHint {
  key: ConvKey;
  /** The row's push: made once, and only if somebody is sent it. */
  message: Outgoing | null;
  /** It came from another instance, which has told all others: not to be forwarded. */
  routed: boolean;
}

/** The limits of one page of a session's backlog: rows, and about so many bytes of text. */
const PAGE_ROWS = 1024;
const PAGE_BYTES = 256 * 1024;
/** Conversations asked for in one read; the rest follow, their rows being younger. */
const MAX_WANTS = 1_000;
/** Pages read concurrently over all sessions: bounds what a storm of logins holds in memory. */
const MAX_READS = 4;
const RETRY_MS = 1_000;
/** Groups whose member lists are cached. */
const MAX_CACHED_GROUPS = 1_000;

interface Members {
  version: number;
  ids: number[];
}

/** A row to be offered to these users' sessions here. */
interface Offer {
  users: number[];
  hint: Hint;
}

export class Delivery {
  private readonly members = new Map<number, Members>();
  /** Groups whose members are being loaded, and the rows waiting for them. */
  private readonly loading = new Map<number, Hint[]>();
  private readonly reorder = new Reorder<Offer>(({ users, hint }) => this.offer(users, hint));
  private reads = 0;
  private readonly readQueue: Session[] = [];
  private stopped = false;
  /** Whether this instance may act; asked before every push. */
  mayPush: () => boolean = () => true;
  /** Called with each row committed here and the users in its conversation, to tell other instances, if any. */
  forward: ((hint: Hint, users: number[]) => void) | null = null;

  constructor(
    private readonly store: Store,
    private readonly router: LocalRouter<Session>,
    private readonly log: Log,
  ) {}

  /** From now on nothing is pushed. */
  stop(): void {
    this.stopped = true;
  }

  private get pushing(): boolean {
    return !this.stopped && this.mayPush();
  }

  /** Offers a committed row to the sessions of everybody in the conversation, here and elsewhere. */
  deliver(hint: Hint): void {
    const { key, row } = hint;
    if (key.kind === "u") return this.deliverTo(key.hi === key.lo ? [key.lo] : [key.lo, key.hi], hint);
    const waiting = this.loading.get(row[0]);
    const members = this.members.get(row[0]);
    if (waiting !== undefined) waiting.push(hint);
    else if (members !== undefined && members.version >= hint.memberVersion) this.deliverTo(members.ids, hint);
    else {
      this.loading.set(row[0], [hint]);
      this.loadMembers(row[0]);
    }
  }

  /** A conversation's log reaches at least `head`: sessions that are behind read on. */
  async noteHead([conversation, conv, head, memberVersion]: Head): Promise<void> {
    const { kind, lo, hi } = parseConv(conv)!;
    let users = hi === lo ? [lo] : [lo, hi];
    if (kind === "g") {
      if ((this.members.get(conversation)?.version ?? -1) < memberVersion) await this.readMembers(conversation);
      users = this.members.get(conversation)!.ids;
    }
    for (const id of users) for (const session of this.router.of(id)) this.catchUpTo(session, conversation, conv, head);
  }

  /** Makes the session read a conversation up to `head`, unless it has. */
  catchUpTo(session: Session, conversation: number, conv: string, head: number): void {
    // A client that has sent FIN gets what there was by then: with newer rows it might never end.
    if (session.ended || session.halfClosed) return;
    const position = session.position(conversation, conv);
    if (head > position.head) position.head = head;
    if (position.at !== null && head <= position.at) return;
    session.markBehind(position);
    this.wake(session);
  }

  /** Reads what the session lacks, as far as it can be pushed. */
  wake(session: Session): void {
    if (!this.pushing || session.reading || session.behind.size === 0 || !session.pushable) return;
    session.reading = true;
    if (this.reads >= MAX_READS) this.readQueue.push(session);
    else this.catchUp(session);
  }

  private deliverTo(users: number[], hint: Hint): void {
    if (!hint.routed) this.forward?.(hint, users);
    // Where no other instance writes to the store, rows come in order.
    if (this.forward === null) this.offer(users, hint);
    else this.reorder.take(hint.row[0], hint.row[1], { users, hint });
  }

  private offer(users: number[], hint: Hint): void {
    const { pushing } = this;
    for (const id of users) this.offerTo(id, hint, pushing);
  }

  private async loadMembers(conversation: number): Promise<void> {
    try {
      await this.readMembers(conversation);
      const hints = this.loading.get(conversation)!;
      this.loading.delete(conversation);
      for (const hint of hints) this.deliver(hint);
    } catch (error) {
      this.log.warn(`members of conversation ${conversation} not read, trying again: ${(error as Error).message}`);
      // The newest row suffices: sessions read the others from the log.
      const hints = this.loading.get(conversation)!;
      this.loading.set(conversation, [hints.reduce((newest, hint) => (hint.row[1] > newest.row[1] ? hint : newest))]);
      setTimeout(() => this.loadMembers(conversation), RETRY_MS);
    }
  }

  private async readMembers(conversation: number): Promise<void> {
    const members = await this.store.memberIds(conversation);
    this.members.delete(conversation);
    this.members.set(conversation, members);
    if (this.members.size > MAX_CACHED_GROUPS) this.members.delete(this.members.keys().next().value!);
  }

  private offerTo(userId: number, hint: Hint, pushing: boolean): void {
    const conversation = hint.row[0];
    const seq = hint.row[1];
    for (const session of this.router.of(userId)) {
      if (session.ended || session.halfClosed) continue;
      const position = session.position(conversation, hint.conv);
      // The first row of a direct conversation, written just now: nothing can have been delivered, so no need to ask.
      if (seq === 1 && position.at === null && this.forward === null && hint.key.kind === "u") position.start(0);
      const isNext = seq === (position.at ?? -1) + 1 && !(session.behind.size > 0 && session.behind.has(position));
      if (isNext && session.pushable && pushing) {
        if (seq > position.head) position.head = seq;
        this.push(session, position, hint);
      } else this.catchUpTo(session, conversation, hint.conv, seq);
    }
  }

  /** Pushes the row after the session's position, unless this device sent it. */
  private push(session: Session, position: Position, hint: Hint): void {
    const { row, conv, key, name } = hint;
    const seq = row[1];
    if (row[4] === session.deviceId) return position.skip(seq);
    position.markPushed(seq);
    hint.message ??= pushOf(row, conv, key, name);
    session.connection.push(hint.message, session.confirms ? null : position, seq);
  }

  private async catchUp(session: Session): Promise<void> {
    this.reads++;
    let failed = false;
    try {
      while (session.behind.size > 0 && session.pushable && this.pushing) {
        await this.pushPage(session);
        // Sessions take turns, page by page.
        if (this.readQueue.length > 0) break;
      }
    } catch (error) {
      failed = true;
      if (!session.ended) {
        this.log.warn(`backlog of user ${session.userId} not read, trying again: ${(error as Error).message}`);
        setTimeout(() => this.wake(session), RETRY_MS);
      }
    }
    session.reading = false;
    this.reads--;
    if (session.behind.size === 0 && session.halfClosed) session.connection.finish();
    let next = this.readQueue.shift();
    while (next !== undefined && !(next.pushable && this.pushing)) {
      next.reading = false;
      next = this.readQueue.shift();
    }
    if (next !== undefined) this.catchUp(next);
    if (!failed) this.wake(session);
  }

  /** Pushes one page. It is small compared with the high-water mark, so all of its rows are. */
  private async pushPage(session: Session): Promise<void> {
    const { rows, names, wanted } = await this.readPage(session);
    if (!session.ready || session.ended || !this.pushing) return;
    for (const row of rows) {
      const position = session.positions.get(row[0])!;
      if (row[1] !== position.at! + 1) continue;
      this.push(session, position, hintOf(row, position.conv, names.get(row[3])!, 0, position.key));
    }
    session.dropCaughtUp();
    if (rows.length === 0 && wanted.every((position) => session.behind.has(position)))
      throw new Error("rows that were announced are not there");
  }

  /** Reads the next rows that the session lacks, oldest first; loads its positions but does not move them. */
  async readPage(session: Session): Promise<{ rows: LogRow[]; names: Map<number, string>; wanted: Position[] }> {
    const wanted: Position[] = [];
    for (const position of session.behind) {
      wanted.push(position);
      if (wanted.length === MAX_WANTS) break;
    }
    const wants: Want[] = wanted.map((position) => [position.conversation, position.at]);
    const { rows, names, found } = await this.store.backlog(
      [session.userId, session.deviceId],
      wants,
      PAGE_ROWS,
      PAGE_BYTES,
    );
    for (const [i, [from, head]] of found.entries()) {
      const position = wanted[i]!;
      if (position.at === null) position.start(from);
      if (head > position.head && !session.halfClosed) position.head = head;
    }
    return { rows, names: new Map(names), wanted };
  }
}

export function hintOf(
  row: LogRow,
  conv: string,
  name: string,
  memberVersion = 0,
  key = parseConv(conv)!,
  routed = false,
): Hint {
  return { row, conv, key, name, memberVersion, message: null, routed };
}
