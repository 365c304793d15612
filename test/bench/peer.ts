// One of the benchmark's clients. It counts frames without parsing them: the load must cost less than what it measures.
import type { Socket } from "bun";
import { Decoder, encode, Fault } from "../../src/net/codec.ts";
import { type JsonObject, MsgId } from "../../src/protocol.ts";

const EMPTY = Buffer.alloc(0);
const ANSWERS: number[] = [MsgId.registered, MsgId.loggedIn, MsgId.answer];

export class Peer {
  socket!: Socket<Peer>;
  onFrame: (bytes: Buffer, start: number, end: number) => void = () => undefined;
  private rest: Buffer = EMPTY;
  private unsent: Buffer = EMPTY;

  /** `bytes` may be used again afterwards. */
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
    this.unsent = EMPTY;
    if (bytes.length > 0) this.send(bytes);
  }

  take(chunk: Buffer): void {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    let at = 0;
    while (bytes.length - at >= 4) {
      const end = at + 4 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!);
      if (end > bytes.length) break;
      this.onFrame(bytes, at + 4, end);
      at = end;
    }
    this.rest = at === bytes.length ? EMPTY : Buffer.from(bytes.subarray(at));
  }
}

export async function connect(port: number): Promise<Peer> {
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

/** One request and its answer, before the load begins; pushes in between are passed over. */
export async function ask(peer: Peer, message: JsonObject): Promise<JsonObject> {
  const text = JSON.stringify(message);
  const out = Buffer.alloc(text.length * 3 + 4);
  const answered = Promise.withResolvers<JsonObject>();
  peer.onFrame = (bytes, start, end) => {
    const decoder = new Decoder(16 * 1024 * 1024);
    decoder.push(Buffer.from(bytes.subarray(start - 4, end)));
    const next = decoder.next();
    if (next === null || next instanceof Fault) answered.reject(new Error("no answer"));
    else if (ANSWERS.includes(next.msgId)) answered.resolve(next);
  };
  peer.send(out.subarray(0, encode(text, "length", out, 0)));
  const answer = await answered.promise;
  if (answer.errno !== 0) throw new Error(`${text} -> ${JSON.stringify(answer)}`);
  return answer;
}

export const PASSWORD = "password";

/** Registers a user and logs in; its id. */
export async function enter(peer: Peer, name: string): Promise<number> {
  const { id } = await ask(peer, { msgId: MsgId.register, name, password: PASSWORD });
  await ask(peer, { msgId: MsgId.login, id, password: PASSWORD });
  return id as number;
}

/** Bytes 9 to 13 of every message that server and relay send are its msgId. */
const MSG_ID_AT = 9;

/** An answer (1010), not a push of a message (1004, 1008). */
export const isAck = (bytes: Buffer, start: number): boolean => bytes[start + MSG_ID_AT + 2] === 0x31;

const QUOTE = 0x22;
const COLON = 0x3a;
const DASH = 0x2d;

/** The seq of a push, which ends with `"seq":7,"mid":"1-5"}`. */
export function seqOf(bytes: Buffer, end: number): number {
  let at = end - 3;
  while (bytes[at] !== QUOTE) at--;
  return digitsBefore(bytes, at - ',"mid":'.length, COLON);
}

/** The number behind the dash of the mid that ends a push. */
export const midOf = (bytes: Buffer, end: number): number => digitsBefore(bytes, end - 2, DASH);

/** The number whose digits stand between the last `before` and `end`. */
function digitsBefore(bytes: Buffer, end: number, before: number): number {
  let value = 0;
  for (let at = end - 1, unit = 1; bytes[at] !== before; at--, unit *= 10) value += (bytes[at]! - 0x30) * unit;
  return value;
}

/** The value below which `share` of the values lie; sorts them. */
export function percentiles(values: number[], ...shares: number[]): number[] {
  values.sort((a, b) => a - b);
  return shares.map((share) => values[Math.floor(share * (values.length - 1))]!);
}
