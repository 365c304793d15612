// One-to-one chats: each sender has a receiver of its own, or one who is offline. Nothing may be lost, doubled or out of order.
import { MsgId } from "../../../src/protocol.ts";
import { type Peer, receivedAt } from "../peer.ts";
import type { Target } from "../target.ts";
import { Field, kindOf, messageOf, numberAt, Requests } from "./frames.ts";
import { enter, enterBare, leave, register, type User } from "./people.ts";
import { type Load, type Measured, Tally } from "./tally.ts";

/** Requests that leave in one write at most. */
const MOST_AT_ONCE = 1024;

export class Pair {
  /** Since the beginning, over all measurements. */
  sent = 0;
  acked = 0;
  delivered = 0;
  /** The number of the next message to be delivered: those that were refused are holes. */
  private next = 0;
  private readonly refused = new Set<number>();
  private readonly requests: Requests;
  /** By message: when it was sent, or was to be sent. A ring of those that have not arrived. */
  private sentAt = new Float64Array(1024);
  private readonly fields = {
    errno: new Field("errno"),
    acked: new Field("mid"),
    pushed: new Field("mid"),
    seq: new Field("seq"),
  };

  /** `receiver`: null where it is offline. `counted`: the seqs of its conversation are 1, 2, 3 …, which a bare relay does not do. */
  constructor(
    readonly sender: Peer,
    readonly from: User,
    readonly receiver: Peer | null,
    readonly to: User,
    textBytes: number,
    private readonly counted: boolean,
  ) {
    this.requests = new Requests(MsgId.chat, `"toid":${to.id}`, textBytes, 0, MOST_AT_ONCE);
  }

  /** Sends messages that were to be sent `at`. */
  send(tally: Tally, wanted: number, at: number): void {
    for (let left = tally.allowed(wanted); left > 0; ) {
      const count = Math.min(left, MOST_AT_ONCE);
      while (this.sent + count - this.arrived > this.sentAt.length) this.growRing();
      for (let i = 0; i < count; i++) this.sentAt[(this.sent + i) & (this.sentAt.length - 1)] = at;
      this.sender.send(this.requests.make(this.sent, count));
      this.sent += count;
      tally.sent += count;
      left -= count;
    }
  }

  /** Counts for `tally` what arrives from now on; `onAcks` is called behind a read of acks. */
  bind(tally: Tally, onAcks: () => void): void {
    const { sender, receiver, fields } = this;
    sender.onFrame = (bytes, start, end) => {
      const kind = kindOf(bytes, start);
      if (kind !== MsgId.answer) return this.passOver(tally, kind, bytes, start, end);
      const number = messageOf(bytes, fields.acked.find(bytes, start, end));
      const errno = numberAt(bytes, fields.errno.find(bytes, start, end));
      if (errno !== 0) {
        this.refused.add(number);
        tally.refuse(errno, bytes.toString("utf8", start, end));
      }
      if (number !== this.acked) return tally.fail(`ack of message ${number} in place of ${this.acked}`);
      if (receiver === null && tally.measuring) tally.latencies.record(receivedAt - this.timeOf(number));
      this.acked++;
      tally.acked++;
      if (tally.stopped) tally.check();
    };
    sender.onTurn = onAcks;
    sender.onClose = () => tally.fail("a sender's connection was closed");
    if (receiver === null) return;
    receiver.onFrame = (bytes, start, end) => {
      const kind = kindOf(bytes, start);
      if (kind !== MsgId.chat) return this.passOver(tally, kind, bytes, start, end);
      if (!this.receive(tally, bytes, start, end)) return;
      if (tally.measuring) tally.latencies.record(receivedAt - this.timeOf(this.next - 1));
      tally.delivered++;
      if (tally.stopped) tally.check();
    };
    receiver.onClose = () => tally.fail("a receiver's connection was closed");
  }

  /** Takes a push, which must come behind the one before; whether it does. That none is missing shows in the end. */
  receive(tally: Tally, bytes: Buffer, start: number, end: number): boolean {
    const number = messageOf(bytes, this.fields.pushed.find(bytes, start, end));
    const seq = this.counted ? numberAt(bytes, this.fields.seq.find(bytes, start, end)) : this.delivered + 1;
    if (number < this.next || seq !== this.delivered + 1) {
      const place = `in place of ${this.next}, seq ${this.delivered + 1}`;
      tally.fail(`user ${this.to.id} got message ${number}, seq ${seq}, ${place}`);
      return false;
    }
    if (this.refused.size > 0 && this.refused.has(number)) tally.fail(`message ${number} was refused, and delivered`);
    this.next = number + 1;
    this.delivered++;
    return true;
  }

  private get arrived(): number {
    return this.receiver === null ? this.acked : this.next;
  }

  private timeOf(number: number): number {
    return this.sentAt[number & (this.sentAt.length - 1)]!;
  }

  private growRing(): void {
    const old = this.sentAt;
    this.sentAt = new Float64Array(old.length * 2);
    for (let i = this.arrived; i < this.sent; i++)
      this.sentAt[i & (this.sentAt.length - 1)] = old[i & (old.length - 1)]!;
  }

  private passOver(tally: Tally, kind: number, bytes: Buffer, start: number, end: number): void {
    if (kind === MsgId.notice) tally.fail(`told: ${bytes.toString("utf8", start, end)}`);
  }
}

/** New users in pairs; `online`: the receivers are logged in too. */
export async function enterPairs(target: Target, count: number, textBytes: number, online = true): Promise<Pair[]> {
  const { senders, receivers, bare } = target;
  if (bare) {
    const users = Array.from({ length: 2 * count }, (_, i) => ({ id: i + 1, name: "" }));
    const peers = await enterBare(senders, users);
    const pairOf = (i: number) =>
      new Pair(peers[i]!, users[i]!, peers[count + i]!, users[count + i]!, textBytes, false);
    return Array.from({ length: count }, (_, i) => pairOf(i));
  }
  const from = await enter(senders, count);
  const to = online ? await enter(receivers, count) : { users: await register(receivers, count), peers: null };
  return from.peers.map(
    (sender, i) => new Pair(sender, from.users[i]!, to.peers?.[i] ?? null, to.users[i]!, textBytes, true),
  );
}

/** New users who all write to a new one, who is offline. */
export async function enterOneTarget(target: Target, count: number, textBytes: number): Promise<Pair[]> {
  const { users, peers } = await enter(target.senders, count);
  const [to] = await register(target.receivers, 1);
  return peers.map((sender, i) => new Pair(sender, users[i]!, null, to!, textBytes, true));
}

/** Ends the pairs' connections. */
export const leavePairs = (pairs: Pair[]): Promise<void> =>
  leave(pairs.flatMap(({ sender, receiver }) => (receiver === null ? [sender] : [sender, receiver])));

/** Closed loop: each sender keeps `window` messages unacknowledged. */
export function driveWindows(pairs: Pair[], window: number, load: Load): Promise<Measured> {
  const tally = new Tally(pairs[0]!.receiver === null ? 0 : 1, load.messages);
  for (const pair of pairs) pair.bind(tally, () => fill(pair));
  const fill = (pair: Pair) => {
    const free = window - (pair.sent - pair.acked);
    if (free > 0) pair.send(tally, free, performance.now());
  };
  return tally.run(load, () => pairs.forEach(fill));
}
