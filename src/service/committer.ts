// Group commit: chat messages that arrive while batches are being stored gather, and leave together as the next one.
// Commit, then ack, then deliver.
import type { LogRow } from "../db/db.ts";
import { DraftsBuilder } from "../model/drafts.ts";
import { type Appended, placesOf } from "../model/message.ts";
import type { Store } from "../model/store.ts";
import type { Connection } from "../net/connection.ts";
import { ChatError, type ConvKey, Errno, type JsonObject } from "../protocol.ts";
import { Ack } from "./composed.ts";
import { type Delivery, hintOf } from "./delivery.ts";
import type { Log } from "./log.ts";
import { answer, retryAfterMs } from "./render.ts";
import type { Session } from "./session.ts";
import { Shedder } from "./shedder.ts";

/** A valid chat message on its way into the log. */
export interface ChatRequest {
  connection: Connection;
  slot: number;
  session: Session;
  /** The session's device id when the message arrived. */
  deviceId: number;
  msgId: number;
  reqId: string | number | undefined;
  conv: string;
  key: ConvKey;
  mid: string | null;
  text: string;
  /** When it arrived, performance.now(). */
  at: number;
}

const BATCH_ROWS = 500;
const BATCH_TEXT = 1024 * 1024;
/**
 * A crowd's messages come in over a few turns of the loop: while the number that wait is in this range, and each turn has
 * brought more, so many turns are added before they are committed. A commit costs about as much as 50 messages.
 */
const CROWD = { from: 8, below: 64, turns: 3 };
/** Batches at the store at once: while one is synced to disk, the next is on its way. */
const BATCHES_IN_FLIGHT = 8;
/** Beyond these (rows, characters) new messages are refused with errno 16, if not earlier: see Shedder. */
const QUEUE_ROWS = 200_000;
const QUEUE_TEXT = 64 * 1024 * 1024;
const COMPACTED_ROWS = 10_000;
/** How often messages that have waited too long are looked for. */
const TICK_MS = 100;

interface Batch {
  requests: ChatRequest[];
  /** The time of its messages, milliseconds since 1970 UTC. */
  ts: number;
  /** Its senders have been answered with errno 19. */
  givenUp: boolean;
}

export class Committer {
  private queue: ChatRequest[] = [];
  /** Index of the queue's first message: those before it have been taken out. */
  private queueHead = 0;
  private queueText = 0;
  private scheduled = false;
  /** performance.now() of this turn, while `scheduled`. */
  private scheduledAt = 0;
  /** A short array, not a Set: see `pending` in db/sqlite.ts for what sets and maps keep alive. */
  private inFlight: Batch[] = [];
  private readonly shedder = new Shedder();
  /** Runs while messages wait or are being stored: an idle server is not woken up. */
  private timer: Timer | null = null;

  constructor(
    private readonly store: Store,
    private readonly delivery: Delivery,
    /** How long storing a message may take; then its sender gets errno 19. Committed later, it is delivered. */
    private readonly storeTimeoutMs: number,
    private readonly log: Log,
  ) {}

  /** The arrival time of messages in this turn, performance.now(): read once per turn. */
  get turnAt(): number {
    return this.scheduled ? this.scheduledAt : performance.now();
  }

  /** Takes a message; its request is answered when it is stored. Throws errno 16 where too many wait. */
  add(request: ChatRequest): void {
    const isFull = this.waiting >= QUEUE_ROWS || this.queueText >= QUEUE_TEXT;
    if (isFull || this.shedder.refuses(this.waitedMs(request.at), request.at))
      throw new ChatError(Errno.rateLimited, "too many messages are waiting to be stored: send again later", {
        retryAfterMs: retryAfterMs(),
      });
    this.queue.push(request);
    this.queueText += request.text.length;
    this.timer ??= setInterval(() => this.tick(), TICK_MS);
    this.schedule();
  }

  /** Stops the timer; the next message starts it again. */
  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }

  /** The number of messages in the queue. */
  private get waiting(): number {
    return this.queue.length - this.queueHead;
  }

  private schedule(): void {
    if (this.scheduled || this.inFlight.length >= BATCHES_IN_FLIGHT || this.waiting === 0) return;
    this.scheduled = true;
    this.commitAfterTurn(CROWD.turns, 0);
  }

  /**
   * Commits at the end of the loop's turn, so that what one turn has read is one batch; or up to `more` turns later, if
   * more than `before` wait by then: see CROWD.
   */
  private commitAfterTurn(more: number, before: number): void {
    this.scheduledAt = performance.now();
    setImmediate(() => {
      const { waiting } = this;
      if (more > 0 && waiting > before && waiting >= CROWD.from && waiting < CROWD.below)
        return this.commitAfterTurn(more - 1, waiting);
      this.scheduled = false;
      // The waiting messages may have been given up meanwhile.
      if (waiting > 0) this.commit(this.takeBatch());
      this.schedule();
    });
  }

  private takeBatch(): ChatRequest[] {
    let end = this.queueHead;
    let text = 0;
    while (end < this.queue.length && end - this.queueHead < BATCH_ROWS && text < BATCH_TEXT)
      text += this.queue[end++]!.text.length;
    const requests = this.takeUntil(end);
    const now = performance.now();
    this.shedder.take(requests.length, this.waitedMs(now), now);
    return requests;
  }

  private async commit(requests: ChatRequest[]): Promise<void> {
    const ts = Date.now();
    const builder = new DraftsBuilder();
    for (const { conv, msgId, session, deviceId, mid, text } of requests)
      builder.add(conv, msgId, session.userId, deviceId, ts, mid, text);
    const batch: Batch = { requests, ts, givenUp: false };
    this.inFlight.push(batch);
    try {
      const appended = await this.store.append(...builder.done());
      this.inFlight = this.inFlight.filter((each) => each !== batch);
      this.acknowledge(batch, appended);
    } catch (error) {
      this.inFlight = this.inFlight.filter((each) => each !== batch);
      this.log.error(
        `${requests.length} messages may not have been stored, their senders got errno 19: ${(error as Error).message}`,
      );
      this.refuseAll(batch);
    }
    this.schedule();
  }

  private acknowledge({ requests, ts, givenUp }: Batch, appended: Appended): void {
    const { seqs, conversations } = placesOf(appended);
    const repeated = new Map(appended.repeated);
    const versions = new Map(appended.memberVersions);
    if (!givenUp) {
      for (const [index, errno, errmsg, field] of appended.refused)
        fail(requests[index]!, errno, errmsg, field === "" ? {} : { field });
      // All acks leave before the pushes: senders then go on together, so that fewer, larger batches follow.
      for (let i = 0; i < requests.length; i++)
        if (seqs[i] !== 0) acknowledge(requests[i]!, conversations[i]!, seqs[i]!, repeated.get(i) ?? ts);
    }
    for (let i = 0; i < requests.length; i++) {
      if (seqs[i] === 0 || repeated.has(i)) continue;
      const { session, deviceId, msgId, conv, key, mid, text } = requests[i]!;
      const conversation = conversations[i]!;
      const row: LogRow = [conversation, seqs[i]!, msgId, session.userId, deviceId, mid, ts, text];
      this.delivery.deliver(hintOf(row, conv, session.name, versions.get(conversation) ?? 0, key));
    }
  }

  /** Takes the messages before index `end` out of the queue. */
  private takeUntil(end: number): ChatRequest[] {
    const all = end === this.queue.length;
    const taken = all && this.queueHead === 0 ? this.queue : this.queue.slice(this.queueHead, end);
    for (const { text } of taken) this.queueText -= text.length;
    this.queueHead = all ? 0 : end;
    if (all) this.queue = [];
    // Seldom, because moving the rest costs its length.
    if (this.queueHead > COMPACTED_ROWS) {
      this.queue.splice(0, this.queueHead);
      this.queueHead = 0;
    }
    return taken;
  }

  /** How long the oldest message in the queue has waited. */
  private waitedMs(now: number): number {
    return now - (this.queue[this.queueHead]?.at ?? now);
  }

  private tick(): void {
    this.shedder.tick();
    this.giveUpLate();
    if (this.waiting === 0 && this.inFlight.length === 0) this.stop();
  }

  private giveUpLate(): void {
    const before = performance.now() - this.storeTimeoutMs + TICK_MS;
    for (const batch of this.inFlight)
      if (!batch.givenUp && batch.requests[0]!.at < before) {
        this.log.error(
          `the store has not answered for ${this.storeTimeoutMs / 1000} s: ${batch.requests.length} messages were answered with errno 19`,
        );
        this.refuseAll(batch);
      }
    let end = this.queueHead;
    while (end < this.queue.length && this.queue[end]!.at < before) end++;
    if (end > this.queueHead) this.refuse(this.takeUntil(end));
  }

  private refuseAll(batch: Batch): void {
    if (batch.givenUp) return;
    batch.givenUp = true;
    this.refuse(batch.requests);
  }

  private refuse(requests: ChatRequest[]): void {
    for (const request of requests)
      fail(request, Errno.unavailable, "the message may not have been stored: send it again with the same mid");
  }
}

function acknowledge(request: ChatRequest, conversation: number, seq: number, ts: number): void {
  const { connection, slot, msgId, reqId, mid, conv } = request;
  // First-generation clients send neither, and expect no answer.
  if (reqId === undefined && mid === null) return connection.answer(slot, "");
  connection.answer(slot, new Ack(msgId, reqId, mid, conversation, conv, seq, ts));
}

function fail(
  { connection, slot, msgId, reqId, mid }: ChatRequest,
  errno: number,
  errmsg: string,
  extra: JsonObject = {},
): void {
  connection.answer(slot, answer(msgId, reqId, errno, { mid: mid ?? undefined, errmsg, ...extra }));
}
