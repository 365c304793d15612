// The listening socket and the set of its connections: limits, time-outs, and the end of them all.
import type { TCPSocketListener } from "bun";
import { closeDescriptor, duplicate, listeningAddress, setBacklog, setReceiveBuffer, setUserTimeout } from "../libc.ts";
import { StartError } from "../start-error.ts";
import type { ConnectionEvents, ConnectionLimits } from "./callbacks.ts";
import { Connection } from "./connection.ts";
import type { TlsKeys } from "./tls.ts";

export interface ServerOptions extends ConnectionLimits {
  host: string;
  /** 0: any free one. */
  port: number;
  /** A socket that listens already, and for others too: it takes the place of host and port. Null: none. */
  inherited: number | null;
  maxConnections: number;
  /** Connections above that limit that are told so; those above this one are closed without a word. */
  maxRefused: number;
  /** Called for each connection above the limit. */
  onFull: () => void;
  loginTimeoutMs: number;
  idleTimeoutMs: number;
  /** Null: plain TCP. */
  tls: TlsKeys | null;
}

/** Connections that the kernel may queue for us: a burst of connects must not lose any. */
const BACKLOG = 4096;
/** What may pile up of a connection that is not read: then its client can send no more, and notices. */
const RECEIVE_BUFFER_BYTES = 256 * 1024;
const KEEPALIVE_MS = 60_000;
/** How long an idle peer is probed: one lost packet must not end its connection. */
const PROBES_MS = 10_000;
/** How long a refused connection has to send the byte that tells how it wants to be answered. */
const REFUSED_WAIT_MS = 1_000;
/** How long a proxy's header may take; a lost packet's repetition must fit in. */
const PROXY_HEADER_WAIT_MS = 5_000;
const SCAN_MS = 1_000;

/** The types do not know of descriptors. */
const descriptorOf = (listener: TCPSocketListener<Connection>): number => (listener as unknown as { fd: number }).fd;

export class Server {
  private readonly connections = new Set<Connection>();
  private readonly refused = new Set<Connection>();
  private listener: TCPSocketListener<Connection>;
  /** Another descriptor of the listening socket: connections queue at it while the listener is replaced. */
  private readonly held: number | null;
  /** Where it listens. */
  readonly address: { host: string; port: number };
  private readonly scanTimer: Timer;

  /** Listens. Connections above the limit get `overload` for their events. Throws StartError. */
  constructor(
    private readonly options: ServerOptions,
    private readonly events: ConnectionEvents,
    private readonly overload: ConnectionEvents,
  ) {
    const { host, port, inherited, tls } = options;
    const passed = inherited === null ? null : listeningAddress(inherited);
    if (inherited !== null && passed === null)
      throw new StartError("what was passed is no listening TCP socket: the socket unit needs Accept=no and a port");
    this.address = passed ?? { host, port };
    this.listener = this.listen(inherited, tls);
    if (passed === null) this.address.port = this.listener.port;
    this.held = inherited ?? duplicate(descriptorOf(this.listener));
    this.scanTimer = setInterval(() => this.scan(), SCAN_MS);
  }

  get size(): number {
    return this.connections.size;
  }

  [Symbol.iterator](): Iterator<Connection> {
    return this.connections.values();
  }

  /** New connections get these keys; those that are there keep theirs. */
  replaceTls(tls: TlsKeys): void {
    // The runtime's listener cannot change them. Where it does not take the new ones, the old listener stays.
    const listener = this.listen(this.held, tls);
    this.listener.stop(false);
    this.listener = listener;
  }

  /**
   * Takes no more connections; those that are there stay. An inherited socket listens on, for whoever takes it next:
   * what comes meanwhile waits in its queue.
   */
  stopListening(): void {
    this.listener.stop(false);
    if (this.held !== null) closeDescriptor(this.held);
    clearInterval(this.scanTimer);
  }

  /** At a socket that listens already, where one is given. The listener closes its descriptor: it gets one of its own. */
  private listen(fd: number | null, tls: TlsKeys | null): TCPSocketListener<Connection> {
    const { host: hostname, port } = this.address;
    const own = fd === null ? null : duplicate(fd);
    try {
      const listener = Bun.listen<Connection>({
        hostname,
        port,
        ...(own === null ? {} : { fd: own }),
        ...(tls === null ? {} : { tls }),
        allowHalfOpen: true,
        socket: {
          open: (socket) => this.accept(socket),
          // Without it, the runtime opens a TLS connection when hands are shaken: one that never does would have no limits.
          handshake: (socket) => {
            socket.data.mute = false;
          },
          data: (socket, chunk) => socket.data.handleData(chunk),
          end: (socket) => socket.data.handleEnd(),
          drain: (socket) => socket.data.flush(),
          close: (socket) => this.remove(socket.data),
          error: (socket) => socket.data.terminate(),
        },
      });
      setBacklog(descriptorOf(listener), BACKLOG);
      setReceiveBuffer(descriptorOf(listener), RECEIVE_BUFFER_BYTES);
      setUserTimeout(descriptorOf(listener), Math.max(this.options.writeTimeoutMs, KEEPALIVE_MS) + PROBES_MS);
      return listener;
    } catch (error) {
      throw new StartError(explain(this.options, error as Error & { code?: string }));
    }
  }

  private accept(socket: Bun.Socket<Connection>): void {
    const full = this.connections.size >= this.options.maxConnections;
    const connection = new Connection(socket, full ? this.overload : this.events, this.options);
    connection.mute = this.options.tls !== null;
    socket.data = connection;
    const { proxy } = this.options;
    if (proxy !== null && !proxy.trusted.has(socket.remoteAddress))
      return connection.refuseProxy(`it is none of the trusted proxies (${proxy.trusted})`);
    if (full) this.options.onFull();
    if (full && this.refused.size >= this.options.maxRefused) return connection.terminate();
    (full ? this.refused : this.connections).add(connection);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
  }

  private remove(connection: Connection): void {
    this.connections.delete(connection);
    this.refused.delete(connection);
    connection.handleClose();
  }

  /** One walk a second in place of a timer for each connection. */
  private scan(): void {
    const now = performance.now();
    const { loginTimeoutMs, idleTimeoutMs } = this.options;
    for (const connection of this.connections) {
      const silentMs = now - connection.inputAt;
      const anonymousMs = now - (connection.anonymousSince ?? now);
      if (connection.isStalled(now)) connection.terminate();
      else if (connection.awaitsProxyHeader && anonymousMs > PROXY_HEADER_WAIT_MS)
        connection.refuseProxy(`no PROXY header within ${PROXY_HEADER_WAIT_MS} ms`);
      else if (anonymousMs > loginTimeoutMs && !connection.busy) connection.finish();
      else if (connection.heartbeats && silentMs > idleTimeoutMs && connection.writable) connection.finish();
    }
    for (const connection of this.refused)
      if (now - (connection.anonymousSince ?? now) > REFUSED_WAIT_MS) connection.finish();
  }
}

function explain({ host, port }: ServerOptions, { code, message }: Error & { code?: string }): string {
  if (code === "EADDRINUSE") return `port ${port} is taken on ${host}: stop what listens there, or give another port`;
  if (code === "EACCES") return `no permission to listen on port ${port}: give one above 1023`;
  // A name that cannot be resolved comes without a code.
  if (code === undefined || ["EADDRNOTAVAIL", "ENOTFOUND", "EINVAL"].includes(code))
    return `${host} is not an address of this machine: give --host another one`;
  return `cannot listen on ${host} port ${port}: ${message} (${code})`;
}
