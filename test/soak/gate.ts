// A TCP forwarder that can be broken in every way that a network breaks: in front of a service, or of one client.
import type { Socket } from "bun";

/** One side of a connection through a gate. */
interface Leg {
  /** The other side; null before it is connected, and after one of them has gone. */
  other: Socket<Leg> | null;
  /** Bytes for this side that it has not taken yet. */
  waiting: Buffer[];
  /** The other side has ended, and this one is to be told after what waits. */
  ending: boolean;
  /** It has lost bytes, or its end was not told: nothing passes any more. */
  stranded: boolean;
  isClient: boolean;
  /** Of the target: of a client's leg, once it has been looked for; 0 before. */
  port: number;
  /** The other side is gone: this one closes when it has taken what waits. */
  closing: boolean;
  /** It has sent its FIN. */
  ended: boolean;
}

/** A kernel gives up after some time to tell somebody who has vanished that the connection has ended. */
const FORGOTTEN_MS = 15_000;

/** pass: as it should be. swallow: what comes is lost. hold: nothing is read, and nothing is lost. */
type Mode = "pass" | "swallow" | "hold";

export class Gate {
  private mode: Mode = "pass";
  private delayMs = 0;
  private refusing = false;
  private deaf = false;
  private readonly legs = new Set<Socket<Leg>>();
  private readonly listener;
  /** Connections that have been passed on. */
  connections = 0;
  /** Connections that a target has reset, by its port. */
  readonly resets = new Map<number, number>();
  /** How often this gate did something to its connections. */
  troubles = 0;

  /** `targets`: the ports to try for a new connection, in this order. */
  constructor(private readonly targets: () => number[]) {
    this.listener = Bun.listen<Leg>({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        ...this.handlers,
        open: (client) => {
          client.data = this.leg(true);
          this.legs.add(client);
          client.pause();
          if (this.refusing) client.terminate();
          else if (this.mode === "pass") this.connect(client);
        },
      },
    });
  }

  get port(): number {
    return this.listener.port;
  }

  /** The port that the connections there are go to; null where there is none. */
  get connectedTo(): number | null {
    let port = null;
    // The newest, where there are several.
    for (const { data } of this.legs) if (!data.isClient && data.other !== null && !data.stranded) port = data.port;
    return port;
  }

  /** Resets all connections. */
  cut(): void {
    this.troubles++;
    for (const leg of this.legs) leg.terminate();
    this.legs.clear();
  }

  /** A black hole: nothing passes, also on new connections, and nothing is closed, until `heal`. */
  swallow(): void {
    this.troubles++;
    this.mode = "swallow";
    for (const leg of this.legs) leg.resume();
  }

  /** A network that stands still: nothing passes, and nothing is lost of what is on its way, until `heal`. */
  hold(): void {
    this.troubles++;
    this.mode = "hold";
    for (const leg of this.legs) leg.pause();
  }

  /** What is passed on comes later by so much. */
  slow(delayMs: number): void {
    this.troubles++;
    this.delayMs = delayMs;
  }

  /** New connections are reset, until `heal`. */
  refuse(): void {
    this.refusing = true;
  }

  /** Nothing more is read from the target, as if the clients had stopped reading, until `heal`. */
  stopReading(): void {
    this.troubles++;
    this.deaf = true;
    for (const leg of this.legs) if (!leg.data.isClient) leg.pause();
  }

  /**
   * The connections there are lose their other side, without a word to either: half-open ones for good. New
   * connections pass.
   */
  strand(): void {
    this.troubles++;
    for (const leg of this.legs) {
      leg.data.stranded = true;
      leg.resume();
    }
  }

  get isPassing(): boolean {
    return this.mode === "pass" && !this.refusing && !this.deaf && this.delayMs === 0;
  }

  /** All is well again. Connections that have lost something are reset: they cannot go on. */
  heal(): void {
    const { mode } = this;
    this.mode = "pass";
    this.delayMs = 0;
    this.refusing = this.deaf = false;
    for (const leg of [...this.legs]) {
      if (mode === "swallow" && !leg.data.stranded) leg.terminate();
      else if (leg.data.isClient && leg.data.port === 0) this.connect(leg);
      else leg.resume();
    }
  }

  stop(): void {
    this.cut();
    this.listener.stop(true);
  }

  private leg(isClient: boolean): Leg {
    return {
      other: null,
      waiting: [],
      ending: false,
      closing: false,
      stranded: false,
      ended: false,

      isClient,
      port: 0,
    };
  }

  private async connect(client: Socket<Leg>): Promise<void> {
    for (const port of this.targets()) {
      client.data.port = port;
      try {
        await Bun.connect<Leg>({
          hostname: "127.0.0.1",
          port,
          allowHalfOpen: true,
          socket: { ...this.handlers, open: (upstream) => this.join(client, upstream) },
        });
        return;
      } catch {
        // The next one.
      }
    }
    client.terminate();
  }

  private join(client: Socket<Leg>, upstream: Socket<Leg>): void {
    upstream.data = { ...this.leg(false), port: client.data.port };
    if (!this.legs.has(client)) return void upstream.terminate();
    this.legs.add(upstream);
    this.connections++;
    upstream.setNoDelay(true);
    client.setNoDelay(true);
    client.data.other = upstream;
    upstream.data.other = client;
    if (client.data.stranded) upstream.data.stranded = true;
    if (this.mode === "hold") upstream.pause();
    else client.resume();
    if (this.deaf) upstream.pause();
  }

  private readonly handlers = {
    data: (from: Socket<Leg>, chunk: Buffer) => {
      const { other, stranded } = from.data;
      if (other === null || stranded || this.mode === "swallow") return;
      const data = Buffer.from(chunk);
      if (this.delayMs === 0 && !this.delayed.has(from)) return this.pass(from, data);
      this.later(from, () => this.pass(from, data));
    },
    end: (from: Socket<Leg>) => {
      from.data.ended = true;
      if (from.data.stranded) setTimeout(() => from.terminate(), FORGOTTEN_MS);
      else if (this.mode !== "swallow") this.later(from, () => this.passEnd(from));
    },
    close: (from: Socket<Leg>, error?: Error) => {
      this.legs.delete(from);
      const { other, stranded, isClient, ended, port } = from.data;
      if (!isClient && !ended && error !== undefined) this.resets.set(port, (this.resets.get(port) ?? 0) + 1);
      if (other === null) return;
      const part = () => {
        from.data.other = other.data.other = null;
      };
      // Who is gone says nothing through a black hole.
      if (stranded || this.mode === "swallow") part();
      else
        this.later(from, () => {
          part();
          other.data.closing = true;
          this.flush(other);
        });
    },
    drain: (to: Socket<Leg>) => this.flush(to),
    error: () => undefined,
  };

  /** What is on its way by a slow gate, in order. */
  private readonly delayed = new Map<Socket<Leg>, Promise<void>>();

  private later(from: Socket<Leg>, act: () => void): void {
    const before = this.delayed.get(from);
    if (this.delayMs === 0 && before === undefined) return act();
    const turn = Promise.all([before, Bun.sleep(this.delayMs)]).then(() => {
      act();
      if (this.delayed.get(from) === turn) this.delayed.delete(from);
    });
    this.delayed.set(from, turn);
  }

  private pass(from: Socket<Leg>, data: Buffer): void {
    const to = from.data.other;
    if (to === null) return;
    to.data.waiting.push(data);
    this.flush(to);
    if (to.data.waiting.length > 0) from.pause();
  }

  private passEnd(from: Socket<Leg>): void {
    const to = from.data.other;
    if (to === null) return;
    to.data.ending = true;
    this.flush(to);
  }

  private flush(to: Socket<Leg>): void {
    const { waiting, ending, closing, other } = to.data;
    while (waiting.length > 0) {
      const sent = to.write(waiting[0]!);
      if (sent < waiting[0]!.length) {
        if (sent > 0) waiting[0] = waiting[0]!.subarray(sent);
        return;
      }
      waiting.shift();
    }
    if (closing) return void to.end();
    if (ending) to.shutdown();
    if (other !== null && this.mode !== "hold" && !(this.deaf && to.data.isClient)) other.resume();
  }
}
