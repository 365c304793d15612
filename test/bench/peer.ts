// One of the benchmark's clients: frames in, frames out, and nothing is parsed that need not be.
import type { Socket } from "bun";
import { type JsonObject, MsgId } from "../../src/protocol.ts";

const EMPTY = Buffer.alloc(0);
const HEADER_BYTES = 4;
const ANSWERS: number[] = [MsgId.registered, MsgId.loggedIn, MsgId.answer];

/** performance.now() when the read began whose frames are being looked at. */
export let receivedAt = 0;

export class Peer {
  socket!: Socket<Peer>;
  onFrame: (bytes: Buffer, start: number, end: number) => void = () => undefined;
  /** All frames of one read have been looked at. */
  onTurn: () => void = () => undefined;
  onClose: () => void = () => undefined;
  /** A frame that has not come whole. */
  private rest: Buffer = EMPTY;
  private unsent: Buffer = EMPTY;

  /** Something waits for the socket to take it. */
  get isFull(): boolean {
    return this.unsent.length > 0;
  }

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
    receivedAt = performance.now();
    let at = this.rest.length === 0 ? 0 : this.complete(chunk);
    while (chunk.length - at >= HEADER_BYTES) {
      const end = at + frameSize(chunk, at);
      if (end > chunk.length) break;
      this.onFrame(chunk, at + HEADER_BYTES, end);
      at = end;
    }
    if (at < chunk.length) this.rest = Buffer.from(chunk.subarray(at));
    this.onTurn();
  }

  /** Completes the frame whose first bytes came before; returns where the chunk's next one begins: at its end, where it lacks more. */
  private complete(chunk: Buffer): number {
    const { rest } = this;
    const header = rest.length < HEADER_BYTES ? Buffer.concat([rest, chunk.subarray(0, HEADER_BYTES)]) : rest;
    const size = header.length < HEADER_BYTES ? Number.POSITIVE_INFINITY : frameSize(header, 0);
    const missing = size - rest.length;
    if (missing > chunk.length) {
      this.rest = Buffer.concat([rest, chunk]);
      return chunk.length;
    }
    this.rest = EMPTY;
    this.onFrame(Buffer.concat([rest, chunk.subarray(0, missing)]), HEADER_BYTES, size);
    return missing;
  }
}

/** With its header; answers are shorter than 16 MiB. */
const frameSize = (bytes: Buffer, at: number): number =>
  HEADER_BYTES + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!);

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
      close: (socket) => socket.data.onClose(),
      // What is wrong with a frame: the measurement fails by the close.
      error: (socket, error) => {
        console.error(error);
        socket.terminate();
        socket.data.onClose();
      },
    },
  });
  return peer;
}

/** A message with its length before it. */
export function encodeText(text: string): Buffer {
  const body = Buffer.from(text);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(body.length);
  return Buffer.concat([header, body]);
}

/** One request and its answer, outside the measured load; pushes in between are passed over. */
export async function ask(peer: Peer, message: JsonObject): Promise<JsonObject> {
  const text = JSON.stringify(message);
  const answered = Promise.withResolvers<JsonObject>();
  const { onFrame, onClose } = peer;
  peer.onFrame = (bytes, start, end) => {
    const next = JSON.parse(bytes.toString("utf8", start, end)) as JsonObject;
    if (ANSWERS.includes(next.msgId as number)) answered.resolve(next);
  };
  peer.onClose = () => answered.reject(new Error(`${text}: the connection was closed`));
  peer.send(encodeText(text));
  const answer = await answered.promise;
  if (answer.errno !== 0) throw new Error(`${text} -> ${JSON.stringify(answer)}`);
  Object.assign(peer, { onFrame, onClose });
  return answer;
}
