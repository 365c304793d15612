// Stand-ins for the SDK's tests: a client that keeps what it is told, a scripted server, a breakable connection.
import { ChatClient, type ClientOptions } from "../../src/client/client.ts";
import type { Events } from "../../src/client/events.ts";
import { Decoder, encode, Fault } from "../../src/net/codec.ts";
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

/** Stands between client and server, to break what is between them. */
export class Tunnel {
  /** Nothing is passed on, in either direction. */
  frozen = false;
  /** New connections are closed at once. */
  refusing = false;
  /** Chunks passed on to the server. */
  forwarded = 0;
  private readonly open = new Set<Bun.Socket<{ peer: Bun.Socket<unknown> | null; early: Buffer[] }>>();
  private readonly listener;

  constructor(target: number) {
    const open = this.open;
    this.listener = Bun.listen<{ peer: Bun.Socket<unknown> | null; early: Buffer[] }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (socket) => {
          socket.data = { peer: null, early: [] };
          if (this.refusing) return void socket.terminate();
          open.add(socket);
          Bun.connect({
            hostname: "127.0.0.1",
            port: target,
            socket: {
              data: (_, chunk) => {
                if (!this.frozen) socket.write(chunk);
              },
              close: () => void socket.end(),
            },
          }).then((peer) => {
            socket.data.peer = peer;
            for (const chunk of socket.data.early) peer.write(chunk);
          });
        },
        data: (socket, chunk) => {
          if (this.frozen) return;
          this.forwarded++;
          if (socket.data.peer === null) socket.data.early.push(Buffer.from(chunk));
          else socket.data.peer.write(chunk);
        },
        close: (socket) => {
          open.delete(socket);
          socket.data.peer?.end();
        },
      },
    });
  }

  get port(): number {
    return this.listener.port;
  }

  /** Resets every connection. */
  cut(): void {
    for (const socket of this.open) socket.terminate();
  }

  stop(): void {
    this.listener.stop(true);
    this.cut();
  }
}
