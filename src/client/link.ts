// One connection to a server: frames out, messages in, orderly close. Knows nothing of what messages mean.
// node:net rather than Bun.connect, because a pending connect can be given up, so that it keeps no process alive.
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { Decoder } from "../net/codec.ts";
import { encode } from "../net/encode.ts";
import { Fault } from "../net/json.ts";
import { MAX_FRAME_BYTES, type Message } from "../protocol.ts";
import { ClientError } from "./events.ts";

export interface Address {
  host: string;
  port: number;
  /** Set where the server is behind TLS. */
  tls?: TlsOptions | undefined;
}

export interface TlsOptions {
  /** PEM of the authority to trust instead of the public ones. */
  ca?: string | undefined;
  /** The name that the certificate must have, if not `host`. */
  name?: string | undefined;
}

export interface LinkEvents {
  onMessage(link: Link, message: Message): void;
  /** The server has ended the connection, or it broke. At most once, and never after `finish` or `terminate`. */
  onLost(link: Link, reason: string): void;
}

/** open: in use; finishing: FIN is queued or sent, input is still read; closed: gone. */
type State = "open" | "finishing" | "closed";

const KEEPALIVE_MS = 60_000;

export class Link {
  state: State = "open";
  /** When bytes last arrived, or pending output was last drained: performance.now(). */
  progressAt = performance.now();
  private readonly decoder = new Decoder(MAX_FRAME_BYTES);
  private texts: string[] = [];
  private readonly gone = Promise.withResolvers<void>();

  /** Takes over a connected socket. */
  private constructor(
    private readonly socket: Socket,
    private readonly events: LinkEvents,
  ) {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
    socket.on("data", (chunk) => this.take(chunk as Buffer));
    socket.on("drain", () => {
      this.progressAt = performance.now();
    });
    socket.on("end", () => {
      this.lose("the server closed the connection");
      this.finish();
    });
    socket.on("close", () => {
      this.lose("the connection broke");
      this.decoder.end();
      this.state = "closed";
      this.gone.resolve();
    });
  }

  /** Connects within `timeoutMs`, unless `signal` aborts it. Throws ClientError "unreachable". */
  static async open(address: Address, timeoutMs: number, signal: AbortSignal, events: LinkEvents): Promise<Link> {
    const { host, port, tls } = address;
    const socket = tls === undefined ? connect({ host, port }) : connectTls({ host, port, ...secure(host, tls) });
    const connected = Promise.withResolvers<void>();
    const giveUp = (reason: string) =>
      connected.reject(new ClientError("unreachable", `${host} port ${port} cannot be reached: ${reason}`));
    const late = setTimeout(() => giveUp(`no answer within ${timeoutMs / 1000} s`), timeoutMs);
    const abort = () => giveUp("given up");
    signal.addEventListener("abort", abort);
    socket.on(tls === undefined ? "connect" : "secureConnect", () => connected.resolve());
    // Only for the reason: "close" follows. Without a listener, the error would end the process.
    socket.on("error", (error: NodeJS.ErrnoException) => giveUp(explain(error)));
    try {
      await connected.promise;
      return new Link(socket, events);
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(late);
      signal.removeEventListener("abort", abort);
    }
  }

  /** Sends a message. Messages of one turn of the loop leave in one write. */
  send(text: string): void {
    if (this.state !== "open") return;
    if (this.texts.push(text) === 1) setImmediate(() => this.flush());
  }

  /** Sends what is pending, then FIN; resolves when the server has ended its side too, or after `timeoutMs`. */
  finish(timeoutMs = 2_000): Promise<void> {
    if (this.state === "open") {
      this.flush();
      this.state = "finishing";
      const late = setTimeout(() => this.socket.destroy(), timeoutMs);
      this.gone.promise.then(() => clearTimeout(late));
      this.socket.end();
    }
    return this.gone.promise;
  }

  /** Closes at once: unsent output is lost, and nothing more comes in. */
  terminate(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.decoder.end();
    this.socket.destroy();
  }

  private flush(): void {
    const texts = this.texts;
    this.texts = [];
    if (texts.length === 0 || this.state !== "open") return;
    const out = Buffer.allocUnsafe(texts.reduce((bytes, text) => bytes + Buffer.byteLength(text) + 4, 0));
    let end = 0;
    for (const text of texts) end = encode(text, "length", out, end);
    this.socket.write(out.subarray(0, end));
  }

  private take(chunk: Buffer): void {
    this.progressAt = performance.now();
    this.decoder.push(chunk);
    for (;;) {
      const next = this.decoder.next();
      if (next instanceof Fault || this.decoder.framing === "lf" || this.decoder.framing === "nul") {
        this.lose("the other side does not speak the chat protocol");
        return this.terminate();
      }
      if (next === null) return;
      this.events.onMessage(this, next);
    }
  }

  private lose(reason: string): void {
    if (this.state === "open") this.events.onLost(this, reason);
  }
}

/** A name is requested (SNI, not for addresses) and checked; without one the certificate must name the address. */
const secure = (host: string, { ca, name = host }: TlsOptions) => ({
  ca,
  servername: isIP(name) === 0 ? name : undefined,
});

function explain({ code, message }: NodeJS.ErrnoException): string {
  if (code === "ECONNREFUSED") return "nothing listens there";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return "there is no such host";
  if (code === "EHOSTUNREACH" || code === "ENETUNREACH") return "there is no route to that network";
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER") return "it does not use TLS: connect without TLS";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return "its certificate names another server";
  if (code !== undefined && /CERT|ISSUER|CA_|VERIFY/.test(code)) return `its certificate is not trusted: ${message}`;
  return message;
}
