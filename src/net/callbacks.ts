// The callbacks of the network part, and the limits it enforces. Read this first.
import type { Message } from "../protocol.ts";
import type { Connection } from "./connection.ts";
import type { Fault } from "./json.ts";
import type { Networks } from "./networks.ts";

/** Where connections deliver what arrives: the service, as far as the network part sees it. */
export interface ConnectionEvents {
  /** Whether a request starts only when all earlier ones are answered, and later ones wait for its answer. */
  isBarrier(message: Message): boolean;
  /** A request; the callee answers it exactly once, by `connection.answer(slot, …)`. */
  onMessage(connection: Connection, slot: number, message: Message): void;
  /** Something other than a request arrived; to be answered in `slot`. */
  onFault(connection: Connection, slot: number, fault: Fault): void;
  /** The peer has sent FIN and all its requests are answered: call `finish` once nothing more is to be sent. */
  onHalfClose(connection: Connection): void;
  /** The output has drained to half the high-water mark: pushing may resume. */
  onWritable(connection: Connection): void;
  /** The connection takes no more requests or pushes: it is closed, or about to be. Called once. */
  onClose(connection: Connection): void;
}

export interface ConnectionLimits {
  maxFrameBytes: number;
  /** Unanswered requests of one connection; at this many, reading from it stops. */
  maxInFlight: number;
  /** High-water mark: above it the connection is not read and nothing is pushed to it. */
  highWaterBytes: number;
  /** A peer that accepts nothing for this long while output is pending counts as gone. */
  writeTimeoutMs: number;
  /** Unless null, every connection must begin with a PROXY header; without one it is closed unanswered. */
  proxy: ProxyLimits | null;
}

export interface ProxyLimits {
  /** The networks from which a header is accepted. */
  trusted: Networks;
  /** Called for each connection that is closed for lack of a valid header. */
  onRefused(address: string, reason: string): void;
}
