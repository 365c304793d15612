// Delivery: what is in the log reaches the sessions. Hints about new rows wake them; each session pushes only the row
// after its position, and reads from the store what it lacks. So live and stored rows, gaps, catching up after a
// log-in and slow readers are one mechanism, and no hint is needed for correctness.
import type { LogRow } from "../db/db.ts";
import type { Want } from "../model/device.ts";
import type { Store } from "../model/store.ts";
import { type ConvKey, parseConv } from "../protocol.ts";
import type { LocalRouter } from "../router/local.ts";
import type { Log } from "./log.ts";
import { pushOf } from "./render.ts";
import type { Position, Session } from "./session.ts";

/** A row that was just committed. */
export interface Hint {
  row: LogRow;
  conv: string;
  key: ConvKey;
  /** The sender's name. */
  name: string;
  /** The version of a group's member list when the row was committed. */
  memberVersion: number;
}

/** One page of a session's backlog. */
const PAGE_ROWS = 256;
const PAGE_BYTES = 256 * 1024;
/** Conversations named in one read; the others follow, their rows being younger. */
const MAX_WANTS = 1_000;
/** Pages read at once over all sessions: bounds what a storm of log-ins holds in memory. */
const MAX_READS = 16;
const RETRY_MS = 1_000;
/** Groups whose member lists are kept. */
const MAX_CACHED_GROUPS = 1_000;

interface Members {
  version: number;
  ids: number[];
}

export class Delivery {
  private readonly members = new Map<number, Members>();
  /** Groups whose members are being loaded, and the rows that wait for them. */
  private readonly loading = new Map<number, Hint[]>();
  private reads = 0;
  private readonly readQueue: Session[] = [];
  private stopped = false;

  constructor(
    private readonly store: Store,
    private readonly router: LocalRouter<Session>,
    private readonly log: Log,
  ) {}

  /** From now on nothing is pushed. */
  stop(): void {
    this.stopped = true;
  }

  /** Tells the sessions of everybody in the conversation. The row must be committed. */
  deliver(hint: Hint): void {
    const { key, row } = hint;
    if (key.kind === "u") {
      const push = new Push(hint);
      this.offerTo(key.lo, push);
      if (key.hi !== key.lo) this.offerTo(key.hi, push);
      return;
    }
    const waiting = this.loading.get(row[0]);
    if (waiting !== undefined) waiting.push(hint);
    else if ((this.members.get(row[0])?.version ?? -1) >= hint.memberVersion) this.deliverToGroup(hint);
    else {
      this.loading.set(row[0], [hint]);
      this.loadMembers(row[0]);
    }
  }

  /** Reads on what the session lacks, as far as it can be pushed. */
  wake(session: Session): void {
    if (this.stopped || session.reading || session.behind.size === 0 || !session.pushable) return;
    session.reading = true;
    if (this.reads >= MAX_READS) this.readQueue.push(session);
    else this.catchUp(session);
  }

  private deliverToGroup(hint: Hint): void {
    const push = new Push(hint);
    for (const id of this.members.get(hint.row[0])!.ids) this.offerTo(id, push);
  }

  private async loadMembers(conversation: number): Promise<void> {
    try {
      const members = await this.store.memberIds(conversation);
      this.members.delete(conversation);
      this.members.set(conversation, members);
      if (this.members.size > MAX_CACHED_GROUPS) this.members.delete(this.members.keys().next().value!);
      const hints = this.loading.get(conversation)!;
      this.loading.delete(conversation);
      for (const hint of hints) this.deliver(hint);
    } catch (error) {
      this.log.warn(`members of conversation ${conversation} not read, trying again: ${(error as Error).message}`);
      // The newest hint brings the others with it, from the log.
      this.loading.get(conversation)!.splice(0, this.loading.get(conversation)!.length - 1);
      setTimeout(() => this.loadMembers(conversation), RETRY_MS);
    }
  }

  private offerTo(userId: number, push: Push): void {
    for (const session of this.router.of(userId)) {
      if (session.ended) continue;
      const [conversation, seq] = push.hint.row;
      const position = session.position(conversation, push.hint.conv);
      if (seq > position.head) position.head = seq;
      if (position.at !== null && seq <= position.at) continue;
      if (seq === (position.at ?? -1) + 1 && session.pushable && !this.stopped && !session.behind.has(position))
        this.push(session, position, push.hint.row, push);
      else {
        session.behind.add(position);
        this.wake(session);
      }
    }
  }

  /** The row after the session's position: pushed, unless the device has sent it itself. */
  private push(session: Session, position: Position, row: LogRow, push: Push): void {
    const seq = row[1];
    if (row[4] === session.deviceId) return position.skip(seq);
    position.pass(seq);
    session.connection.push(push.text, session.confirms ? null : position, seq);
  }

  private async catchUp(session: Session): Promise<void> {
    this.reads++;
    let failed = false;
    try {
      while (session.behind.size > 0 && session.pushable && !this.stopped) {
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
    while (next !== undefined && !next.pushable) {
      next.reading = false;
      next = this.readQueue.shift();
    }
    if (next !== undefined) this.catchUp(next);
    if (!failed) this.wake(session);
  }

  /** One page is small against the high-water mark, so all of its rows are pushed. */
  private async pushPage(session: Session): Promise<void> {
    const before = session.behind.size;
    const { rows, names } = await this.readPage(session);
    if (!session.ready || session.ended || this.stopped) return;
    for (const row of rows) {
      const position = session.positions.get(row[0])!;
      if (row[1] !== position.at! + 1) continue;
      const hint = { row, conv: position.conv, key: position.key, name: names.get(row[3])!, memberVersion: 0 };
      this.push(session, position, row, new Push(hint));
    }
    for (const position of session.behind) if (position.at! >= position.head) session.behind.delete(position);
    if (rows.length === 0 && session.behind.size >= before) throw new Error("rows that were announced are not there");
  }

  /** The next rows that the session lacks, oldest first. Its positions are loaded then, but not moved. */
  async readPage(session: Session): Promise<{ rows: LogRow[]; names: Map<number, string> }> {
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
      if (head > position.head) position.head = head;
    }
    return { rows, names: new Map(names) };
  }
}

/** A row on its way to several sessions: its text is made once, and only if somebody is sent it. */
class Push {
  private made: string | null = null;

  constructor(readonly hint: Hint) {}

  get text(): string {
    const { row, conv, key, name } = this.hint;
    this.made ??= pushOf(row, conv, key, name);
    return this.made;
  }
}

export const hintOf = (row: LogRow, conv: string, name: string, memberVersion = 0): Hint => ({
  row,
  conv,
  key: parseConv(conv)!,
  name,
  memberVersion,
});
