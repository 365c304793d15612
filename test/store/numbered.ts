// Batches of numbered messages, which tell what is missing, doubled or out of order.
import type { Drafts } from "../../src/model/message.ts";
import { directConv, MsgId } from "../../src/protocol.ts";

/** `count` messages from user 1 to the users 2 … 1 + `peers` in turn, numbered from `from` on. */
export function batch(from: number, count: number, peers: number): Drafts {
  const numbers = Array.from({ length: count }, (_, i) => from + i);
  return {
    convs: numbers.map((n) => directConv(1, 2 + (n % peers))),
    kinds: numbers.map(() => MsgId.chat),
    senders: numbers.map(() => 1),
    devices: numbers.map(() => 0),
    mids: numbers.map((n) => `m${n}`),
    times: numbers.map((n) => 1_000 + n),
    texts: numbers.map((n) => `text ${n}`),
  };
}
