// The listening socket and its set of connections: limits and time-outs.
import type { TCPSocketListener } from "bun";
import { closeDescriptor, duplicate, listeningAddress, setBacklog, setReceiveBuffer, setUserTimeout } from "../libc.ts";
import { StartError } from "../start-error.ts";
import type { ConnectionEvents, ConnectionLimits } from "./callbacks.ts";
import { Connection } from "./connection.ts";
import type { TlsKeys } from "./tls.ts";

export interface ServerOptions extends ConnectionLimits {
  host: string;
  /** 0: any free port. */
  port: number;
  /** Descriptor of a listening socket passed in (others may hold it too): replaces host and port. Null: none. */
  inherited: number | null;
  maxConnections: number;
  /** Connections above `maxConnections` that get an answer saying so; any beyond these are reset. */
  maxOverLimit: number;
  /** Called for each connection above `maxConnections`. */
  onFull: () => void;
  loginTimeoutMs: number;
  idleTimeoutMs: number;
  /** Null: plain TCP. */
  tls: TlsKeys | null;
}

/** Length of the kernel's accept queue: a burst of connects must not lose any. */
const BACKLOG = 4096;
/** Kernel receive buffer of each connection: once an unread one is full, its client cannot send more, and notices. */
const RECEIVE_BUFFER_BYTES = 256 * 1024;
const KEEPALIVE_MS = 60_000;
/** How long keepalive probes to an idle peer may go unanswered: one lost packet must not end its connection. */
const PROBES_MS = 10_000;
/** How long a connection above the limit has to send its first byte, which tells the framing of the refusal. */
const OVER_LIMIT_WAIT_MS = 1_000;
/** How long a PROXY header may take to arrive; leaves room for one retransmission. */
const PROXY_HEADER_WAIT_MS = 5_000;
const SCAN_MS = 1_000;

/** The runtime's types lack `fd`. */
const descriptorOf = (listener: TCPSocketListener<Connection>): number => (listener as unknown as { fd: number }).fd;

export class Server {
  private readonly connections = new Set<Connection>();
  private readonly overLimit = new Set<Connection>();
  private listener: TCPSocketListener<Connection>;
  /** Another descriptor of the listening socket: connections keep queueing on it while the listener is replaced. */
  private readonly held: number | null;
  /** Where it listens; the actual port, where 0 was asked for. */
  readonly address: { host: string; port: number };
  private readonly scanTimer: Timer;

  /** Starts listening. Connections above the limit get `overload` as their events. Throws StartError. */
  constructor(
    private readonly options: ServerOptions,
    private readonly events: ConnectionEvents,
    private readonly overload: ConnectionEvents,
  ) {
    const { host, port, inherited, tls } = options;
    const passed = inherited === null ? null : listeningAddress(inherited);
    if (inherited !== null && passed === null)
      throw new StartError(
        "systemd passed something other than a listening TCP socket: the socket unit needs Accept=no and a port",
      );
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

  /** New connections use these keys; existing ones keep theirs. Throws StartError. */
  replaceTls(tls: TlsKeys): void {
    // The runtime cannot change a listener's keys. If it rejects the new ones, the old listener stays.
    const listener = this.listen(this.held, tls);
    this.listener.stop(false);
    this.listener = listener;
  }

  /**
   * Accepts no more connections; existing ones stay. An inherited socket keeps listening for whoever takes it over
   * next: connections wait in its queue meanwhile.
   */
  stopListening(): void {
    this.listener.stop(false);
    if (this.held !== null) closeDescriptor(this.held);
    clearInterval(this.scanTimer);
  }

  /** Listens on a duplicate of `fd`, if given, since the listener closes its descriptor. Throws StartError. */
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
          // Without it `open` waits for the TLS handshake: a peer that never completes it would escape all limits.
          handshake: (socket) => {
            socket.data.handshakePending = false;
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
    connection.handshakePending = this.options.tls !== null;
    socket.data = connection;
    const { proxy } = this.options;
    if (proxy !== null && !proxy.trusted.has(socket.remoteAddress))
      return connection.refuseProxy(`not one of the trusted proxies (${proxy.trusted})`);
    if (full) this.options.onFull();
    if (full && this.overLimit.size >= this.options.maxOverLimit) return connection.terminate();
    (full ? this.overLimit : this.connections).add(connection);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
  }

  private remove(connection: Connection): void {
    this.connections.delete(connection);
    this.overLimit.delete(connection);
    connection.handleClose();
  }

  /** One pass a second over all connections, instead of a timer for each. */
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
      else if (connection.idleTimeoutApplies && silentMs > idleTimeoutMs && connection.writable) connection.finish();
    }
    for (const connection of this.overLimit)
      if (now - (connection.anonymousSince ?? now) > OVER_LIMIT_WAIT_MS) connection.finish();
  }
}

function explain({ host, port }: ServerOptions, { code, message }: Error & { code?: string }): string {
  if (code === "EADDRINUSE")
    return `port ${port} is already in use on ${host}: stop the program that listens there, or give another port`;
  if (code === "EACCES") return `no permission to listen on port ${port}: give a port above 1023`;
  // The error for a name that cannot be resolved has no code.
  if (code === undefined || ["EADDRNOTAVAIL", "ENOTFOUND", "EINVAL"].includes(code))
    return `${host} is not an address of this machine: give --host another one`;
  return `cannot listen on ${host} port ${port}: ${message} (${code})`;
}
