// The benchmark's clients: pairs of sender and receiver that keep a window of unacknowledged messages full.
import type { Socket } from "bun";
import { Decoder, encode, Fault } from "../../src/net/codec.ts";
import { type JsonObject, MsgId } from "../../src/protocol.ts";

export interface Load {
  pairs: number;
  /** Messages of one sender that are not acknowledged yet. */
  window: number;
  /** Bytes of a message's text. */
  textBytes: number;
  seconds: number;
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

/** Counts frames without parsing them: the load must cost less than what it measures. */
class Peer {
  private rest = Buffer.alloc(0);
  private unsent = Buffer.alloc(0);
  socket!: Socket<Peer>;
  onFrame: (bytes: Buffer, start: number, end: number) => void = () => undefined;

  send(bytes: Buffer): void {
    if (this.unsent.length > 0) {
      this.unsent = Buffer.concat([this.unsent, bytes]);
      return;
    }
    const accepted = Math.max(0, this.socket.write(bytes));
    if (accepted < bytes.length) this.unsent = Buffer.from(bytes.subarray(accepted));
  }

  drain(): void {
    const bytes = this.unsent;
    this.unsent = Buffer.alloc(0);
    if (bytes.length > 0) this.send(bytes);
  }

  take(chunk: Buffer): void {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    let at = 0;
    while (bytes.length - at >= 4) {
      const end = at + 4 + bytes.readUInt32BE(at);
      if (end > bytes.length) break;
      this.onFrame(bytes, at + 4, end);
      at = end;
    }
    this.rest = Buffer.from(bytes.subarray(at));
  }
}

async function connect(port: number): Promise<Peer> {
  const peer = new Peer();
  peer.socket = await Bun.connect<Peer>({
    hostname: "127.0.0.1",
    port,
    data: peer,
    socket: {
      open: (socket) => void socket.setNoDelay(true),
      data: (socket, chunk) => socket.data.take(chunk),
      drain: (socket) => socket.data.drain(),
      close: () => undefined,
    },
  });
  return peer;
}

/** One request and its answer, before the load begins. */
async function ask(peer: Peer, message: JsonObject): Promise<JsonObject> {
  const out = Buffer.alloc(4096);
  const answered = Promise.withResolvers<JsonObject>();
  peer.onFrame = (bytes, start, end) => {
    const decoder = new Decoder(16 * 1024 * 1024);
    decoder.push(Buffer.from(bytes.subarray(start - 4, end)));
    const next = decoder.next();
    if (next === null || next instanceof Fault) answered.reject(new Error("no answer"));
    else if (next.msgId < MsgId.presence) answered.resolve(next);
  };
  peer.send(Buffer.from(out.subarray(0, encode(JSON.stringify(message), "length", out, 0))));
  const answer = await answered.promise;
  if (answer.errno !== 0) throw new Error(`${JSON.stringify(message)} -> ${JSON.stringify(answer)}`);
  return answer;
}

const PASSWORD = "password";
/** Bytes 9 to 13 of every message that server and relay send are its msgId. */
const MSG_ID_AT = 9;
const isAck = (bytes: Buffer, start: number): boolean => bytes[start + MSG_ID_AT + 2] === 0x31; // 1010, not 1004
let runs = 0;

/** Registers users, runs the load for its time, and waits until all that was sent is acknowledged and delivered. */
export async function run(port: number, register: boolean, load: Load): Promise<Measured> {
  const peers: { sender: Peer; receiver: Peer; toid: number }[] = [];
  runs++;
  for (let i = 0; i < load.pairs; i++) {
    const [sender, receiver] = [await connect(port), await connect(port)];
    const ids: number[] = [];
    for (const peer of [sender, receiver]) {
      const name = `bench${runs}-${i}-${ids.length}`;
      ids.push(
        register
          ? ((await ask(peer, { msgId: MsgId.register, name, password: PASSWORD })).id as number)
          : 2 * i + ids.length + 1,
      );
      await ask(peer, { msgId: MsgId.login, id: ids.at(-1), password: PASSWORD });
    }
    peers.push({ sender, receiver, toid: ids[1]! });
  }
  const result = await drive(peers, load);
  for (const { sender, receiver } of peers) {
    sender.socket.end();
    receiver.socket.end();
  }
  return result;
}

async function drive(peers: { sender: Peer; receiver: Peer; toid: number }[], load: Load): Promise<Measured> {
  const text = "x".repeat(load.textBytes);
  const latencies: number[] = [];
  let [sent, acked, delivered, refused] = [0, 0, 0, 0];
  const startedAt = performance.now();
  const stopAt = startedAt + load.seconds * 1000;
  let endedAt = 0;
  const done = Promise.withResolvers<void>();
  const out = Buffer.allocUnsafe(load.window * (load.textBytes + 160));
  let mids = 0;
  const counts = { acked: 0, delivered: 0 };

  for (const { sender, receiver, toid } of peers) {
    const sentAt: number[] = [];
    let oldest = 0;
    let free = load.window;
    const fill = () => {
      const now = performance.now();
      if (now >= stopAt) {
        if (endedAt === 0) {
          endedAt = now;
          Object.assign(counts, { acked, delivered });
        }
        return;
      }
      let end = 0;
      for (; free > 0; free--) {
        end = encode(`{"msgId":1004,"toid":${toid},"msg":"${text}","mid":"${runs}-${++mids}"}`, "length", out, end);
        sentAt.push(now);
        sent++;
      }
      if (end > 0) sender.send(Buffer.from(out.subarray(0, end)));
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
    receiver.onFrame = (bytes, start) => {
      if (isAck(bytes, start)) return;
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
    load.seconds * 1000 + 20_000,
  );
  await done.promise;
  clearTimeout(late);
  if (refused > 0) throw new Error(`${refused} of the messages looked at were refused`);
  latencies.sort((a, b) => a - b);
  const at = (share: number) => latencies[Math.floor(share * (latencies.length - 1))]!;
  return { sent, ...counts, seconds: (endedAt - startedAt) / 1000, p50: at(0.5), p99: at(0.99) };
}
