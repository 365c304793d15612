// Users that send and receive under load and keep account of it, over any number of connections.
import { Database } from "bun:sqlite";
import { directConv, groupConv, type JsonObject, type Message, MsgId } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import { login, type User, type Wire } from "../wire.ts";

/** A message that was handed to the server. */
export interface Sent {
  sender: number;
  conv: string;
  msg: string;
  mid: string | null;
  /** As acknowledged; null: it is not known whether it is stored. */
  seq: number | null;
}

/** A row of the log as it is stored. */
export interface Stored {
  conv: string;
  seq: number;
  kind: number;
  sender: number;
  mid: string | null;
  msg: string;
}

export interface Habits {
  /** Logs in with `confirm`, and confirms what arrives some time later. */
  confirms?: boolean;
  /** Where it sends to, in turn: a user or a group. */
  to?: JsonObject[];
  /** Its messages have a `mid` and are sent again until they are acknowledged. */
  mids?: boolean;
}

/** Every so many messages one is long: it is their text that makes the store move what it has journalled. */
const BULKY = 20;
const BULK = "x".repeat(40_000);

export class Peer {
  readonly sent: Sent[] = [];
  /** Sent on this or an earlier connection and not acknowledged, by `reqId`. */
  readonly unacked = new Map<string, Sent>();
  /** Hashes of the texts that have arrived, by conversation and seq. */
  readonly got = new Map<string, Map<number, number | bigint>>();
  /** Arrivals of what had arrived before. */
  repeats = 0;
  /** What must never happen, as it happened. */
  readonly faults: string[] = [];
  private wire: Wire | null = null;
  /** The last seq that came by this connection, by conversation. */
  private last = new Map<string, number>();
  private confirmed = new Map<string, number>();

  constructor(
    readonly user: User,
    private readonly habits: Habits = {},
  ) {}

  /** Logs in and sends again what was not acknowledged. */
  async connect(port: number): Promise<void> {
    this.wire = await login(port, this.user, { confirm: this.habits.confirms === true });
    this.last = new Map();
    this.confirmed = new Map();
    const again = [...this.unacked];
    this.wire.send(...again.map(([reqId, sent]) => this.request(reqId, sent)));
  }

  /** Sends new messages until `window` of them are not acknowledged. */
  fill(window: number): void {
    const { to = [], mids = false } = this.habits;
    const requests: JsonObject[] = [];
    while (to.length > 0 && this.unacked.size < window) {
      const count = this.sent.length;
      const target = to[count % to.length]!;
      const conv =
        target.groupid === undefined
          ? directConv(this.user.id, target.toid as number)
          : groupConv(target.groupid as number);
      const msg = `${this.user.id}:${count}${count % BULKY === 0 ? BULK : ""}`;
      const sent: Sent = { sender: this.user.id, conv, msg, mid: mids ? `m${this.user.id}:${count}` : null, seq: null };
      this.sent.push(sent);
      this.unacked.set(String(count), sent);
      requests.push(this.request(String(count), sent));
    }
    this.wire!.send(...requests);
  }

  /** Takes account of what has arrived, and confirms some of it. */
  take(): void {
    for (const message of this.wire!.rest()) {
      if (message.msgId === MsgId.answer) this.takeAnswer(message);
      else if (message.msgId === MsgId.chat || message.msgId === MsgId.groupChat) this.takePush(message);
    }
    if (this.habits.confirms && Math.random() < 0.2) this.confirm();
  }

  /** The connection is lost: with what it still held, or (`reads`) after reading that. */
  async lose(reads: boolean): Promise<void> {
    const wire = this.wire!;
    if (reads) {
      await wire.whenEnded();
      this.take();
    }
    wire.close();
    wire.rest();
    // Without a mid, sending again could double.
    for (const [reqId, sent] of this.unacked) if (sent.mid === null) this.unacked.delete(reqId);
  }

  /** What it should have of `stored`, and has not. */
  missing(stored: Stored[]): Stored[] {
    const own = (conv: string) =>
      conv.startsWith("g:") || conv.startsWith(`u:${this.user.id}-`) || conv.endsWith(`-${this.user.id}`);
    return stored.filter(
      ({ conv, seq, sender, msg }) =>
        own(conv) && sender !== this.user.id && this.got.get(conv)?.get(seq) !== Bun.hash(msg),
    );
  }

  async close(): Promise<void> {
    this.wire?.close();
  }

  private request(reqId: string, { conv, msg, mid }: Sent): JsonObject {
    const target = conv.startsWith("g:")
      ? { msgId: MsgId.groupChat, groupid: Number(conv.slice(2)) }
      : { msgId: MsgId.chat, toid: this.otherOf(conv) };
    return { ...target, reqId, msg, mid };
  }

  private otherOf(conv: string): number {
    const [low, high] = conv.slice(2).split("-").map(Number) as [number, number];
    return low === this.user.id ? high : low;
  }

  private takeAnswer({ ack, reqId, errno, seq, mid }: Message): void {
    if (ack === MsgId.confirm) return;
    const sent = this.unacked.get(reqId as string);
    if (errno !== 0 || sent === undefined || (sent.mid ?? undefined) !== mid) {
      this.faults.push(`answer ${errno} to ${reqId} with mid ${mid}`);
      return;
    }
    sent.seq = seq as number;
    this.unacked.delete(reqId as string);
  }

  private takePush(message: Message): void {
    const [conv, seq, msg] = [message.conv as string, message.seq as number, message.msg as string];
    const last = this.last.get(conv) ?? 0;
    if (seq <= last) this.faults.push(`${conv}: ${seq} after ${last}`);
    this.last.set(conv, seq);
    if (message.id === this.user.id) this.faults.push(`${conv}: ${seq} is its own`);
    const hash = Bun.hash(msg);
    const texts = this.got.get(conv) ?? new Map<number, number | bigint>();
    this.got.set(conv, texts);
    if (texts.has(seq)) {
      this.repeats++;
      if (texts.get(seq) !== hash) this.faults.push(`${conv}: ${seq} has come with another text`);
    }
    texts.set(seq, hash);
  }

  private confirm(): void {
    const requests: JsonObject[] = [];
    for (const [conv, seq] of this.last) {
      if (seq === this.confirmed.get(conv)) continue;
      this.confirmed.set(conv, seq);
      requests.push({ msgId: MsgId.confirm, conv, seq });
    }
    if (requests.length > 0) this.wire!.send(...requests);
  }
}

/** Lets all peers send and receive until `done`; rejects with `what` after `ms`. */
export const run = (peers: Peer[], window: number, done: () => boolean, what: string, ms?: number): Promise<void> =>
  until(
    () => {
      for (const peer of peers) {
        peer.take();
        peer.fill(window);
      }
      return done();
    },
    what,
    ms,
  );

/** The log as the database file holds it, oldest first in each conversation. */
export function readLog(file: string): Stored[] {
  const db = new Database(file, { readonly: true });
  try {
    return db
      .query<Stored, []>(
        `SELECT CASE c.kind WHEN 0 THEN 'u:' || c.lo || '-' || c.hi ELSE 'g:' || c.lo END AS conv,
                m.seq, m.kind, m.sender, m.mid, m.body AS msg
         FROM message m JOIN conversation c ON c.id = m.conversation ORDER BY c.id, m.seq`,
      )
      .all();
  } finally {
    db.close();
  }
}

/** What is wrong with the stored log, measured by what was sent: nothing, where the server keeps its word. */
export function compare(stored: Stored[], sent: Sent[]) {
  const chats = stored.filter(({ kind }) => kind === MsgId.chat || kind === MsgId.groupChat);
  const gaps: string[] = [];
  const heads = new Map<string, number>();
  for (const { conv, seq } of stored) {
    if (seq !== (heads.get(conv) ?? 0) + 1) gaps.push(`${conv}: ${seq} after ${heads.get(conv)}`);
    heads.set(conv, seq);
  }
  const copies = Map.groupBy(chats, ({ msg }) => msg);
  const texts = new Set(sent.map(({ msg }) => msg));
  return {
    gaps,
    doubled: [...copies].filter(([, rows]) => rows.length > 1).map(([msg]) => msg),
    lost: sent.filter(({ seq, msg, conv, sender, mid }) => {
      if (seq === null) return false;
      const row = copies.get(msg)?.[0];
      return row?.seq !== seq || row.conv !== conv || row.sender !== sender || row.mid !== mid;
    }),
    invented: chats.filter(({ msg }) => !texts.has(msg)),
  };
}

export const FLAWLESS = { gaps: [], doubled: [], lost: [], invented: [] };
