// A group: a few senders that keep their windows full, and members, on all instances, who each get every message.
import { MsgId } from "../../../src/protocol.ts";
import { ask, type Peer, receivedAt } from "../peer.ts";
import type { Target } from "../target.ts";
import { Field, kindOf, messageOf, numberAt, Requests, senderOf } from "./frames.ts";
import { connectAll, enterBare, forEach, freshName, leave, logIn, register } from "./people.ts";
import { type Load, type Measured, Tally } from "./tally.ts";

export const SENDERS = 4;
const ZERO = 0x30;
/** Of every so many members, the latencies of one are looked at. */
const SAMPLED = 10;
/** So many of the last members, on different instances, must have a message before its sender sends another in its place. */
const AWAITED = 2;
/** Messages of one sender whose times are kept. */
const RING = 1 << 16;
/** Members who join at once. */
const JOIN_AT_ONCE = 20;
/** Begins the mids of the messages that are none of the load's. */
export const BEGIN = "begin-";

let begun = 0;

export interface Group {
  /** The first of them send. */
  members: Peer[];
  id: number;
  /** Messages of each sender so far. */
  sent: number[];
}

/** Makes a group whose members are logged in, on the target's ports in turn. */
export async function enterGroup({ senders, receivers, bare }: Target, size: number): Promise<Group> {
  const ports = [...new Set([senders, receivers])];
  const members: Peer[] = [];
  if (bare)
    members.push(
      ...(await enterBare(
        senders,
        Array.from({ length: size }, (_, i) => ({ id: i + 1, name: "" })),
      )),
    );
  else {
    const users = await register(senders, size);
    for (const [first, port] of ports.entries()) {
      const peers = await connectAll(port, Math.ceil((size - first) / ports.length));
      for (const [i, peer] of peers.entries()) members[first + i * ports.length] = peer;
    }
    await forEach(size, async (index) => void (await logIn(members[index]!, users[index]!)));
  }
  const { groupid } = await ask(members[0]!, { msgId: MsgId.createGroup, groupname: freshName() });
  const join = async (index: number) =>
    void (await ask(members[index + 1]!, { msgId: MsgId.joinGroup, groupid: groupid as number }));
  await forEach(size - 1, join, JOIN_AT_ONCE);
  return { members, id: groupid as number, sent: Array.from({ length: SENDERS }, () => 0) };
}

export const leaveGroup = ({ members }: Group): Promise<void> => leave(members);

/** A message that everybody gets behind all that came before; the seq that they have then. */
async function synchronize({ members, id }: Group): Promise<number> {
  const [first, ...others] = members as [Peer, ...Peer[]];
  const text = `${BEGIN}${++begun}`;
  const mid = Buffer.from(`"mid":"${text}"`);
  const arrived = others.map((peer) => {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    peer.onClose = () => reject(new Error("a member's connection was closed"));
    peer.onFrame = (bytes, start, end) => {
      const at = bytes.indexOf(mid, start);
      if (at >= start && at < end) resolve(numberAt(bytes, new Field("seq").find(bytes, start, end)));
    };
    return promise;
  });
  const { seq } = await ask(first, { msgId: MsgId.groupChat, groupid: id, msg: "begin", mid: text });
  for (const each of await Promise.all(arrived)) if (each !== seq) throw new Error(`seq ${each} in place of ${seq}`);
  return seq as number;
}

class Sender {
  acked: number;
  readonly sentAt = new Float64Array(RING);
  /** By awaited member: messages of this sender that it has. */
  readonly has = new Uint32Array(AWAITED);
  private readonly requests: Requests;

  /** `sent`: messages of this sender before. */
  constructor(
    private readonly peer: Peer,
    private readonly tally: Tally,
    private readonly window: number,
    groupId: number,
    index: number,
    public sent: number,
    textBytes: number,
  ) {
    this.acked = sent;
    this.has.fill(sent);
    this.requests = new Requests(MsgId.groupChat, `"groupid":${groupId}`, textBytes, index, window);
  }

  /** Sends as many as are acknowledged and delivered to the awaited members. */
  fill(): void {
    const done = Math.min(this.acked, ...this.has);
    const count = this.tally.allowed(this.window - (this.sent - done));
    if (count <= 0) return;
    const now = performance.now();
    for (let i = 0; i < count; i++) this.sentAt[(this.sent + i) % RING] = now;
    this.peer.send(this.requests.make(this.sent, count));
    this.sent += count;
    this.tally.sent += count;
  }
}

/** `delivered` counts deliveries; `window`: messages of one sender under way. */
export async function driveGroup(group: Group, window: number, textBytes: number, load: Load): Promise<Measured> {
  const { members, id } = group;
  const first = await synchronize(group);
  const tally = new Tally(members.length - 1);
  const senders = members
    .slice(0, SENDERS)
    .map((peer, index) => new Sender(peer, tally, window, id, index, group.sent[index]!, textBytes));
  const fillAll = () => {
    for (const sender of senders) sender.fill();
  };

  for (const [number, peer] of members.entries()) {
    const own = senders[number];
    const awaited = number - (members.length - AWAITED);
    const sampled = number % SAMPLED === SAMPLED - 1;
    const [mid, seqField, ackedMid, errno] = [new Field("mid"), new Field("seq"), new Field("mid"), new Field("errno")];
    let last = first;
    const takeAck = (sender: Sender, bytes: Buffer, start: number, end: number) => {
      if (bytes[errno.find(bytes, start, end)] !== ZERO)
        return tally.fail(`refused: ${bytes.toString("utf8", start, end)}`);
      const message = messageOf(bytes, ackedMid.find(bytes, start, end));
      if (message !== sender.acked) return tally.fail(`ack of message ${message} in place of ${sender.acked}`);
      sender.acked++;
      tally.acked++;
    };
    peer.onFrame = (bytes, start, end) => {
      const kind = kindOf(bytes, start);
      if (kind === MsgId.answer && own !== undefined) takeAck(own, bytes, start, end);
      else if (kind === MsgId.groupChat) {
        const seq = numberAt(bytes, seqField.find(bytes, start, end));
        // A sender's own messages are holes in what it is pushed.
        if (own === undefined ? seq !== last + 1 : seq <= last)
          return tally.fail(`member ${number} got seq ${seq} behind ${last}`);
        last = seq;
        tally.delivered++;
        if (awaited >= 0 || (sampled && tally.measuring)) {
          const at = mid.find(bytes, start, end);
          const sender = senders[senderOf(bytes, at)]!;
          if (awaited >= 0) sender.has[awaited]!++;
          if (sampled && tally.measuring)
            tally.latencies.record(receivedAt - sender.sentAt[messageOf(bytes, at) % RING]!);
        }
      } else if (kind === MsgId.notice) return tally.fail(`told: ${bytes.toString("utf8", start, end)}`);
      if (tally.stopped) tally.check();
    };
    peer.onTurn = own !== undefined ? () => own.fill() : awaited >= 0 ? fillAll : () => undefined;
    peer.onClose = () => tally.fail(`member ${number}'s connection was closed`);
  }
  const measured = await tally.run(load, fillAll);
  group.sent = senders.map(({ sent }) => sent);
  return measured;
}
