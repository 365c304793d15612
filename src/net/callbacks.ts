// What the network part calls, and the limits it keeps: to be read first.
import type { Message } from "../protocol.ts";
import type { Connection } from "./connection.ts";
import type { Fault } from "./json.ts";
import type { Networks } from "./networks.ts";

/** What connections do with what arrives: the service, as far as the network part sees it. */
export interface ConnectionEvents {
  /** Whether a request starts only when all earlier ones are answered, and later ones wait for its answer. */
  isBarrier(message: Message): boolean;
  /** A request, to be answered once by `answer(slot, …)`. */
  onMessage(connection: Connection, slot: number, message: Message): void;
  /** What arrived instead of a request, to be answered in `slot`. */
  onFault(connection: Connection, slot: number, fault: Fault): void;
  /** The peer has sent its last byte and its requests are answered: `finish` when nothing else is to be sent. */
  onHalfClose(connection: Connection): void;
  /** The output has fallen below the high-water mark: pushing may go on. */
  onWritable(connection: Connection): void;
  /** The connection takes no more requests and pushes: it is gone, or about to end. Called once. */
  onClose(connection: Connection): void;
}

export interface ConnectionLimits {
  maxFrameBytes: number;
  /** Requests of one connection that are not answered yet; beyond, it is not read. */
  maxInFlight: number;
  /** Output above this: the connection is not read and nothing is pushed to it. */
  highWaterBytes: number;
  /** A peer that takes nothing for this long while output waits is gone. */
  writeTimeoutMs: number;
  /** Not null: every connection begins with a proxy's header, or is closed without an answer. */
  proxy: ProxyLimits | null;
}

export interface ProxyLimits {
  /** Where a header is accepted from. */
  trusted: Networks;
  /** Told of each connection that is closed for want of a good header. */
  onRefused(address: string, reason: string): void;
}
