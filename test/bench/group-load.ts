// The load of a group: a few senders that keep their windows full, and members on several instances who get every message.
import { encode } from "../../src/net/codec.ts";
import { MsgId } from "../../src/protocol.ts";
import { LATE_MS, type Measured } from "./load.ts";
import type { Meter } from "./meter.ts";
import { ask, connect, enter, isAck, midOf, type Peer, percentiles, seqOf } from "./peer.ts";

export const SENDERS = 4;
/** Begins the mids of the messages that are none of the load's. */
export const BEGIN = "begin-";
/** Members who enter at once. */
const AT_ONCE = 20;
/** Of every so many members, the latencies of one are looked at. */
const SAMPLED = 10;
/** So many of the last members, on different instances, must have a message before its sender sends another in its place. */
const AWAITED = 2;

export interface GroupLoad {
  /** Messages of one sender that are not acknowledged, or not delivered to the last members. */
  window: number;
  textBytes: number;
  seconds: number;
  meter: Meter;
}

export interface Group {
  /** The first of them send. */
  members: Peer[];
  id: number;
}

let groups = 0;
let runs = 0;

/** Makes a group whose members are logged in, on the ports in turn. */
export async function enterGroup(ports: number[], size: number): Promise<Group> {
  const name = `group${++groups}`;
  const members: Peer[] = [];
  let id = 0;
  const enterAs = async (number: number) => {
    const peer = await connect(ports[number % ports.length]!);
    members[number] = peer;
    await enter(peer, `${name}-${number}`);
    if (number === 0) id = (await ask(peer, { msgId: MsgId.createGroup, groupname: name })).groupid as number;
    else await ask(peer, { msgId: MsgId.joinGroup, groupid: id });
    peer.onFrame = () => undefined;
  };
  await enterAs(0);
  const enterRest = async (from: number) => {
    for (let i = from; i < size; i += AT_ONCE) await enterAs(i);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => enterRest(i + 1)));
  return { members, id };
}

export function leaveGroup({ members }: Group): void {
  for (const { socket } of members) socket.end();
}

/** A message that everybody gets behind all that came before; the seqs that they have then. */
async function synchronize({ members, id }: Group): Promise<number> {
  const [first, ...others] = members;
  const arrived = others.map((peer) => {
    const { promise, resolve } = Promise.withResolvers<number>();
    const mid = Buffer.from(`"mid":"${BEGIN}${runs}"}`);
    peer.onFrame = (bytes, start, end) => {
      if (bytes.subarray(start, end).includes(mid)) resolve(seqOf(bytes, end));
    };
    return promise;
  });
  const { seq } = await ask(first!, { msgId: MsgId.groupChat, groupid: id, msg: "begin", mid: `${BEGIN}${runs}` });
  for (const each of await Promise.all(arrived)) if (each !== seq) throw new Error(`seq ${each} instead of ${seq}`);
  return seq as number;
}

/**
 * Runs the load for its time, and waits until all that was sent is acknowledged and delivered to everybody else. `delivered`
 * counts deliveries. Rejects where a message is lost, doubled or out of order.
 */
export async function runGroup(group: Group, load: GroupLoad): Promise<Measured> {
  runs++;
  const begun = await synchronize(group);
  const text = "x".repeat(load.textBytes);
  const latencies: number[] = [];
  const sentAt: number[] = [];
  /** By message: what is still to come before the next takes its place, and what sends that. */
  const awaited: number[] = [];
  const refills: (() => void)[] = [];
  const cameOf = (message: number) => {
    if (--awaited[message]! === 0) refills[message]!();
  };
  let [acked, delivered] = [0, 0];
  load.meter.start();
  const startedAt = performance.now();
  const stopAt = startedAt + load.seconds * 1000;
  let endedAt = 0;
  const counts = { acked: 0, delivered: 0 };
  let measured = 0;
  const done = Promise.withResolvers<void>();
  const out = Buffer.allocUnsafe(load.window * (load.textBytes + 160));
  const receivers = group.members.length - 1;
  const check = () => {
    const sent = sentAt.length;
    if (endedAt > 0 && acked === sent && delivered === sent * receivers) done.resolve();
  };

  const begin = (peer: Peer, number: number) => {
    const sends = number < SENDERS;
    const sampled = number % SAMPLED === SAMPLED - 1;
    const isAwaited = number >= group.members.length - AWAITED;
    let last = begun;
    let free = load.window;
    const fill = () => {
      const now = performance.now();
      if (now >= stopAt) {
        if (endedAt > 0) return;
        endedAt = now;
        load.meter.stop();
        Object.assign(counts, { acked, delivered });
        measured = latencies.length;
        return;
      }
      let end = 0;
      for (; free > 0; free--) {
        const mid = `${runs}-${sentAt.length}`;
        end = encode(`{"msgId":1008,"groupid":${group.id},"msg":"${text}","mid":"${mid}"}`, "length", out, end);
        sentAt.push(now);
        awaited.push(1 + AWAITED);
        refills.push(refill);
      }
      if (end > 0) peer.send(out.subarray(0, end));
    };
    let scheduled = false;
    const refill = () => {
      free++;
      if (scheduled) return;
      scheduled = true;
      queueMicrotask(() => {
        scheduled = false;
        fill();
        check();
      });
    };
    const takeAck = (answer: string) => {
      acked++;
      const { errno, mid } = JSON.parse(answer);
      if (errno !== 0) done.reject(new Error(`refused: ${answer}`));
      else cameOf(Number(mid.split("-")[1]));
      if (endedAt > 0) check();
    };
    peer.onFrame = (bytes, start, end) => {
      if (sends && isAck(bytes, start)) return takeAck(bytes.toString("utf8", start, end));
      const seq = seqOf(bytes, end);
      // A sender's own messages are holes in what it is pushed.
      if (sends ? seq <= last : seq !== last + 1)
        done.reject(new Error(`member ${number} got seq ${seq} behind ${last}`));
      last = seq;
      delivered++;
      if (isAwaited) cameOf(midOf(bytes, end));
      if (sampled) latencies.push(performance.now() - sentAt[midOf(bytes, end)]!);
      if (endedAt > 0) check();
    };
    return fill;
  };
  const fills = group.members.map(begin);
  for (const fill of fills.slice(0, SENDERS)) fill();
  const late = setTimeout(
    () => done.reject(new Error(`sent ${sentAt.length}, acknowledged ${acked}, delivered ${delivered}: not complete`)),
    load.seconds * 1000 + LATE_MS,
  );
  await done.promise;
  clearTimeout(late);
  const [p50, p99] = percentiles(latencies.slice(0, measured), 0.5, 0.99) as [number, number];
  return { sent: sentAt.length, ...counts, seconds: (endedAt - startedAt) / 1000, p50, p99 };
}
