// A client on the wire for tests: raw bytes out, messages in, on the real codec. Length-prefixed unless said otherwise.
import type { Socket } from "bun";
import { Decoder, type Framing } from "../src/net/codec.ts";
import { encode } from "../src/net/encode.ts";
import { Fault } from "../src/net/json.ts";
import { type JsonObject, type Message, MsgId } from "../src/protocol.ts";
import { until } from "./harness.ts";

/** Answers, as against pushes. */
const ANSWERS: number[] = [MsgId.registered, MsgId.loggedIn, MsgId.answer];

export class Wire {
  /** Everything received, in order, and not taken yet by one of the functions below. */
  received: Message[] = [];
  /** Bytes received in all. */
  bytes: Buffer[] = [];
  /** The server's FIN has come. */
  ended = false;
  /** The connection is gone. */
  closed = false;
  /** Every read pauses the socket, until `resume`. */
  stepping = false;
  private readonly decoder = new Decoder(16 * 1024 * 1024);
  private socket!: Socket<Wire>;
  private unsent = Buffer.alloc(0);
  private lastReqId = 0;

  private constructor(private readonly framing: Framing) {}

  static async connect(port: number, framing: Framing = "length"): Promise<Wire> {
    const wire = new Wire(framing);
    wire.socket = await Bun.connect<Wire>({
      hostname: "127.0.0.1",
      port,
      data: wire,
      allowHalfOpen: true,
      socket: {
        data: (socket, chunk) => {
          if (wire.stepping) socket.pause();
          wire.take(chunk);
        },
        drain: () => wire.writeRest(),
        end: () => {
          wire.ended = true;
        },
        close: () => {
          wire.closed = wire.ended = true;
        },
        error: () => {
          wire.closed = wire.ended = true;
        },
      },
    });
    return wire;
  }

  /** Sends bytes as they are. */
  raw(bytes: string | Uint8Array): void {
    this.unsent = Buffer.concat([this.unsent, typeof bytes === "string" ? Buffer.from(bytes) : bytes]);
    this.writeRest();
  }

  /** Sends messages in this wire's framing, in one write. */
  send(...messages: JsonObject[]): void {
    const frames = messages.map((message) => {
      const text = JSON.stringify(message);
      const out = Buffer.alloc(text.length * 3 + 4);
      return Buffer.from(out.subarray(0, encode(text, this.framing, out, 0)));
    });
    this.raw(Buffer.concat(frames));
  }

  /** Sends a request with a fresh `reqId` and waits for its answer, whatever its errno. */
  async ask(message: JsonObject): Promise<Message> {
    const reqId = message.reqId ?? `r${++this.lastReqId}`;
    this.send({ ...message, reqId });
    return this.next((each) => each.reqId === reqId && ANSWERS.includes(each.msgId), `the answer to ${message.msgId}`);
  }

  /** Takes the first message that fits out of `received`, waiting for it. */
  async next(fits: (message: Message) => boolean = () => true, what = "a message", ms = 10_000): Promise<Message> {
    let found = -1;
    const isThere = () => {
      found = this.received.findIndex(fits);
      if (found < 0 && this.ended) throw new Error(`closed before ${what} came`);
      return found >= 0;
    };
    await until(isThere, what, ms).catch((error: Error) => {
      throw new Error(`${error.message}; received ${JSON.stringify(this.received).slice(0, 2000)}`);
    });
    return this.received.splice(found, 1)[0]!;
  }

  /** Takes the next push of this kind, waiting for it. */
  push(msgId: number, ms?: number): Promise<Message> {
    return this.next(
      (each) => each.msgId === msgId && each.ack === undefined && each.reqId === undefined,
      `push ${msgId}`,
      ms,
    );
  }

  /** Everything received so far, as text with its terminators. */
  get text(): string {
    return Buffer.concat(this.bytes).toString();
  }

  /** Waits until the server has ended the connection; what it said is in `received`. */
  whenEnded(ms?: number): Promise<void> {
    return until(() => this.ended, "the end of the connection", ms);
  }

  /** Takes what has been received and not taken yet. */
  rest(): Message[] {
    return this.received.splice(0);
  }

  /** Waits until the server has answered everything sent before: what it pushed before that is in `received`. */
  async settle(): Promise<void> {
    const { errno } = await this.ask({ msgId: MsgId.heartbeat });
    if (errno !== 0) throw new Error(`heartbeat answered with ${errno}`);
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  /** FIN: no more is sent, and the server's output is still read. */
  halfClose(): void {
    this.socket.shutdown();
  }

  /** Ends without a word, as when the process dies. */
  close(): void {
    this.socket.terminate();
    this.closed = true;
  }

  private writeRest(): void {
    if (this.unsent.length > 0) this.unsent = this.unsent.subarray(Math.max(0, this.socket.write(this.unsent)));
  }

  private take(chunk: Buffer): void {
    this.bytes.push(chunk);
    this.decoder.push(chunk);
    for (let next = this.decoder.next(); next !== null; next = this.decoder.next()) this.keep(next);
    if (this.decoder.holding) this.keep(this.decoder.releaseHeld());
  }

  private keep(next: Message | Fault | null): void {
    if (next instanceof Fault) throw new Error(`the server sent something else: ${next.errmsg}`);
    if (next !== null) this.received.push(next);
  }
}

export interface User {
  id: number;
  name: string;
  password: string;
}

let users = 0;

/** Registers a user with a fresh name. */
export async function register(port: number, password = "secret1"): Promise<User> {
  const wire = await Wire.connect(port);
  const name = `user${process.pid}-${++users}`;
  const { id } = await wire.ask({ msgId: MsgId.register, name, password });
  wire.close();
  return { id: id as number, name, password };
}

/** A connection that is logged in as `user`. Rejects where the log-in is refused. */
export async function login(port: number, user: User, fields: JsonObject = {}): Promise<Wire & { answer: Message }> {
  const wire = await Wire.connect(port);
  const answer = await wire.ask({ msgId: MsgId.login, id: user.id, password: user.password, ...fields });
  if (answer.errno !== 0) throw new Error(`log-in refused: ${JSON.stringify(answer)}`);
  return Object.assign(wire, { answer });
}
