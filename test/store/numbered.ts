// Batches of numbered messages, which tell what is missing, doubled or out of order.
import type { Pieces } from "../../src/db/db.ts";
import type { Drafts } from "../../src/model/drafts.ts";
import { directConv, MsgId } from "../../src/protocol.ts";
import { draftsOf } from "./series.ts";

/**
 * `count` messages from user 1 to the users 2 … 1 + `peers` in turn, numbered from `from` on; `together`: how many in a row to
 * the same.
 */
export function batch(from: number, count: number, peers: number, together = 1): [Drafts, Pieces] {
  const messages = Array.from({ length: count }, (_, i) => {
    const n = from + i;
    const conv = directConv(1, 2 + (Math.floor(n / together) % peers));
    return { conv, kind: MsgId.chat, sender: 1, device: 0, mid: `m${n}`, time: 1_000 + from, text: `text ${n}` };
  });
  return draftsOf(messages);
}
