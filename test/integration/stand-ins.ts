// Stand-ins for the SDK's tests: a client that keeps what it is told, a scripted server, a breakable connection.
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { ChatClient, type ClientOptions } from "../../src/client/client.ts";
import type { Events } from "../../src/client/events.ts";
import { Decoder } from "../../src/net/codec.ts";
import { encode } from "../../src/net/encode.ts";
import { Fault } from "../../src/net/json.ts";
import type { JsonObject, Message } from "../../src/protocol.ts";

/** All that were made, to be closed at the end. */
export const recorders: ChatClient[] = [];

/** A client that keeps what it is told. */
export class Recorder extends ChatClient {
  readonly told: { [Name in keyof Events]: Events[Name][] } = {
    message: [],
    groupMessage: [],
    friendAdded: [],
    groupChanged: [],
    presence: [],
    notice: [],
    push: [],
    online: [],
    offline: [],
    ended: [],
  };

  constructor(port: number, options: Partial<ClientOptions> = {}) {
    super({ host: "127.0.0.1", port, retryMinMs: 20, retryMaxMs: 200, ...options });
    recorders.push(this);
    for (const name of Object.keys(this.told) as (keyof Events)[])
      this.on(name, (event) => void (this.told[name] as unknown[]).push(event));
  }

  get texts(): string[] {
    return this.told.message.map(({ msg }) => msg);
  }
}

/** A successful log-in's answer, but for its reqId. */
export const LOGIN = { msgId: 1003, errno: 0, id: 1, name: "a", token: "t", friends: [], groups: [], offline: 0 };

/** Answers as it is told to, with the real codec. */
export class FakeServer {
  readonly received: Message[] = [];
  /** Everything that came in, as it came. */
  bytes: Buffer = Buffer.alloc(0);
  private readonly listener;

  constructor(handle: (message: Message, reply: (message: JsonObject) => void, hangUp: () => void) => void) {
    this.listener = Bun.listen<Decoder>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (socket) => {
          socket.data = new Decoder(1024 * 1024);
        },
        data: (socket, chunk) => {
          const decoder = socket.data;
          this.bytes = Buffer.concat([this.bytes, chunk]);
          decoder.push(chunk);
          for (let next = decoder.next(); next !== null; next = decoder.next()) {
            if (next instanceof Fault) throw new Error(next.errmsg);
            this.received.push(next);
            const reply = (message: JsonObject) => {
              const out = Buffer.alloc(4096);
              socket.write(out.subarray(0, encode(JSON.stringify(message), "length", out, 0)));
            };
            handle(next, reply, () => socket.end());
          }
        },
      },
    });
  }

  get port(): number {
    return this.listener.port;
  }

  stop(): void {
    this.listener.stop(true);
  }
}

/** Stands between clients and server, to break what is between them. */
export class Tunnel {
  /** What arrives now is swallowed; nothing passes any more on a connection that has lost something. */
  frozen = false;
  /** New connections are reset at once. */
  refusing = false;
  /** Chunks passed on to the server, and not passed on. */
  forwarded = 0;
  swallowed = 0;
  private readonly open = new Set<Socket>();
  private readonly listener: Server;

  private constructor(
    /** The port that new connections go to. */
    public target: number,
  ) {
    this.listener = createServer((client) => {
      client.on("error", () => undefined);
      if (this.refusing) return client.resetAndDestroy();
      this.open.add(client);
      const upstream = connect(this.target, "127.0.0.1");
      upstream.on("error", () => undefined);
      let broken = false;
      const pass = (chunk: Buffer, to: Socket) => {
        broken ||= this.frozen;
        if (!broken) to.write(chunk);
        return !broken;
      };
      client.on("data", (chunk) => {
        if (pass(chunk as Buffer, upstream)) this.forwarded++;
        else this.swallowed++;
      });
      upstream.on("data", (chunk) => pass(chunk as Buffer, client));
      client.on("close", () => {
        this.open.delete(client);
        upstream.destroy();
      });
      upstream.on("close", () => client.destroySoon());
    });
  }

  static async to(target: number): Promise<Tunnel> {
    const tunnel = new Tunnel(target);
    await new Promise<void>((resolve) => tunnel.listener.listen(0, "127.0.0.1", resolve));
    return tunnel;
  }

  get port(): number {
    return (this.listener.address() as AddressInfo).port;
  }

  /** Resets every connection. */
  cut(): void {
    for (const client of this.open) client.resetAndDestroy();
  }

  stop(): void {
    this.listener.close();
    this.cut();
  }
}
