// A TCP forwarder between the tested server and its database: connections through it can be cut or swallowed.
import type { Socket } from "bun";

/** Bytes that the other side has not taken yet. */
interface Leg {
  other: Socket<Leg> | null;
  waiting: Buffer[];
}

export interface Forwarder {
  port: number;
  /** Closes all connections. */
  cut(): void;
  /** From now on nothing passes, and no connection is closed, until `heal`, which cuts what was there. */
  swallow(): void;
  heal(): void;
  /** Called with what clients send, before it is passed on (or swallowed); "cut" passes it on and closes before the answer. */
  watch(onSent: (data: Buffer) => "pass" | "cut"): void;
  stop(): void;
}

export async function startForwarder(target: number): Promise<Forwarder> {
  const sockets = new Set<Socket<Leg>>();
  let swallowing = false;
  let onSent: (data: Buffer) => "pass" | "cut" = () => "pass";

  const pass = (to: Socket<Leg>, data: Buffer) => {
    if (to.data.waiting.length > 0) return void to.data.waiting.push(data);
    const sent = to.write(data);
    if (sent >= 0 && sent < data.length) to.data.waiting.push(data.subarray(sent));
  };
  const drain = (socket: Socket<Leg>) => {
    const { waiting } = socket.data;
    socket.data.waiting = [];
    for (const data of waiting) pass(socket, data);
  };
  const close = (socket: Socket<Leg>) => {
    sockets.delete(socket);
    const { other } = socket.data;
    if (swallowing || other === null) return;
    other.data.other = null;
    other.end();
  };
  const common = { drain, close, error: () => undefined };

  const server = Bun.listen<Leg>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      ...common,
      open(client) {
        sockets.add(client);
        client.data = { other: null, waiting: [] };
        if (swallowing) return;
        client.pause();
        Bun.connect<Leg>({
          hostname: "127.0.0.1",
          port: target,
          socket: {
            ...common,
            open(upstream) {
              sockets.add(upstream);
              upstream.data = { other: client, waiting: [] };
              client.data.other = upstream;
              client.resume();
            },
            data(upstream, data) {
              if (!swallowing && upstream.data.other !== null) pass(upstream.data.other, Buffer.from(data));
            },
          },
        }).catch(() => client.terminate());
      },
      data(client, data) {
        const { other } = client.data;
        if (swallowing || other === null) return;
        const fate = onSent(data);
        if (swallowing) return;
        pass(other, Buffer.from(data));
        if (fate === "pass") return;
        // The answer finds nobody; the database learns of the end after it has read everything.
        client.data.other = null;
        other.data.other = null;
        client.terminate();
        other.end();
      },
    },
  });
  const cut = () => {
    for (const socket of sockets) socket.terminate();
    sockets.clear();
  };
  return {
    port: server.port,
    cut,
    swallow: () => {
      swallowing = true;
    },
    heal: () => {
      cut();
      swallowing = false;
    },
    watch: (callback) => {
      onSent = callback;
    },
    stop: () => {
      cut();
      server.stop(true);
    },
  };
}
