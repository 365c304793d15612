// The load of pairs: senders that keep a window of unacknowledged messages full, each with a receiver of its own.
import { encode } from "../../src/net/codec.ts";
import { MsgId } from "../../src/protocol.ts";
import type { Meter } from "./meter.ts";
import { ask, connect, enter, isAck, PASSWORD, type Peer, percentiles, seqOf } from "./peer.ts";

export interface Load {
  pairs: number;
  /** Messages of one sender that are not acknowledged yet. */
  window: number;
  /** Bytes of a message's text. */
  textBytes: number;
  seconds: number;
  /** Measures while the load runs. */
  meter: Meter;
}

/** Where it goes: `receivers` is another port than `senders` where they are on different instances. */
export interface Ports {
  senders: number;
  receivers: number;
  /** A bare relay knows no users and does not count by conversation. */
  bare?: boolean;
}

export interface Measured {
  sent: number;
  acked: number;
  delivered: number;
  seconds: number;
  /** Milliseconds from send to receipt, of the messages delivered in the measured time. */
  p50: number;
  p99: number;
}

interface Pair {
  sender: Peer;
  receiver: Peer;
  toid: number;
}

export const LATE_MS = 20_000;
let runs = 0;

/**
 * Registers users, runs the load for its time, and waits until all that was sent is acknowledged and delivered. Rejects
 * where a message is lost, doubled or out of order.
 */
export async function run(ports: Ports, load: Load): Promise<Measured> {
  const pairs: Pair[] = [];
  runs++;
  for (let i = 0; i < load.pairs; i++) {
    const [sender, receiver] = [await connect(ports.senders), await connect(ports.receivers)];
    let toid = 2 * i + 2;
    if (ports.bare) {
      await ask(sender, { msgId: MsgId.login, id: toid - 1, password: PASSWORD });
      await ask(receiver, { msgId: MsgId.login, id: toid, password: PASSWORD });
    } else {
      await enter(sender, `bench${runs}-${i}-0`);
      toid = await enter(receiver, `bench${runs}-${i}-1`);
    }
    pairs.push({ sender, receiver, toid });
  }
  const result = await drive(pairs, load, ports.bare !== true);
  for (const { sender, receiver } of pairs) {
    sender.socket.end();
    receiver.socket.end();
  }
  return result;
}

async function drive(pairs: Pair[], load: Load, counted: boolean): Promise<Measured> {
  const text = "x".repeat(load.textBytes);
  const latencies: number[] = [];
  let [sent, acked, delivered, refused] = [0, 0, 0, 0];
  load.meter.start();
  const startedAt = performance.now();
  const stopAt = startedAt + load.seconds * 1000;
  let endedAt = 0;
  const done = Promise.withResolvers<void>();
  const out = Buffer.allocUnsafe(load.window * (load.textBytes + 160));
  let mids = 0;
  const counts = { acked: 0, delivered: 0 };
  let measured = 0;

  for (const { sender, receiver, toid } of pairs) {
    const sentAt: number[] = [];
    let oldest = 0;
    let free = load.window;
    let last = 0;
    const fill = () => {
      const now = performance.now();
      if (now >= stopAt) {
        if (endedAt === 0) {
          endedAt = now;
          load.meter.stop();
          Object.assign(counts, { acked, delivered });
          measured = latencies.length;
        }
        return;
      }
      let end = 0;
      for (; free > 0; free--) {
        end = encode(`{"msgId":1004,"toid":${toid},"msg":"${text}","mid":"${runs}-${++mids}"}`, "length", out, end);
        sentAt.push(now);
        sent++;
      }
      if (end > 0) sender.send(out.subarray(0, end));
    };
    const check = () => {
      if (endedAt > 0 && acked === sent && delivered === sent) done.resolve();
    };
    let scheduled = false;
    sender.onFrame = (bytes, start, end) => {
      if (!isAck(bytes, start)) return;
      acked++;
      free++;
      // Every 64th is read whole.
      if (acked % 64 === 0 && JSON.parse(bytes.toString("utf8", start, end)).errno !== 0) refused++;
      if (!scheduled) {
        scheduled = true;
        queueMicrotask(() => {
          scheduled = false;
          fill();
          check();
        });
      }
    };
    receiver.onFrame = (bytes, start, end) => {
      if (isAck(bytes, start)) return;
      if (counted && seqOf(bytes, end) !== ++last)
        done.reject(new Error(`the receiver ${toid} got seq ${seqOf(bytes, end)} instead of ${last}`));
      delivered++;
      latencies.push(performance.now() - sentAt[oldest]!);
      if (++oldest === 4096) {
        sentAt.splice(0, oldest);
        oldest = 0;
      }
      if (endedAt > 0) check();
    };
    fill();
  }
  const late = setTimeout(
    () => done.reject(new Error(`sent ${sent}, acknowledged ${acked}, delivered ${delivered}: not complete`)),
    load.seconds * 1000 + LATE_MS,
  );
  await done.promise;
  clearTimeout(late);
  if (refused > 0) throw new Error(`${refused} of the messages looked at were refused`);
  const [p50, p99] = percentiles(latencies.slice(0, measured), 0.5, 0.99) as [number, number];
  return { sent, ...counts, seconds: (endedAt - startedAt) / 1000, p50, p99 };
}
