// Offline users come back: they log in, and everything that is stored for them must follow, in order.
import { MsgId } from "../../../src/protocol.ts";
import { encodeText, type Peer, receivedAt } from "../peer.ts";
import { Field, kindOf, numberAt } from "./frames.ts";
import type { Pair } from "./pairs.ts";
import { connectAll, leave, PASSWORD } from "./people.ts";
import { Tally } from "./tally.ts";

export interface Fetched {
  /** From the log-ins to the last message. */
  seconds: number;
  /** Milliseconds from the log-ins to the first answer, and to the first message. */
  loginMs: number;
  firstMs: number;
}

/** How long everything may take to come. */
const LATE_MS = 300_000;

/** All receivers log in at once, on `port`, and leave when they have got everything. Rejects where a message is lost, doubled or out of order. */
export async function fetchBacklog(port: number, pairs: Pair[]): Promise<Fetched> {
  const bySender = new Map(pairs.map((pair) => [pair.from.id, pair]));
  const ids = [...new Set(pairs.map(({ to }) => to.id))];
  const peers = await connectAll(port, ids.length);
  const tally = new Tally(1);
  const missing = pairs.reduce((sum, { sent, delivered }) => sum + sent - delivered, 0);
  // The answers to the log-ins count too.
  tally.sent = tally.acked = missing + ids.length;
  tally.stopped = true;
  let [loginAt, firstAt] = [0, 0];

  const listen = (peer: Peer) => {
    const [errno, from] = [new Field("errno"), new Field("fromid")];
    peer.onFrame = (bytes, start, end) => {
      const kind = kindOf(bytes, start);
      if (kind === MsgId.chat) {
        if (firstAt === 0) firstAt = receivedAt;
        const pair = bySender.get(numberAt(bytes, from.find(bytes, start, end)))!;
        if (!pair.receive(tally, bytes, start, end)) return;
        tally.delivered++;
        tally.check();
      } else if (kind === MsgId.loggedIn) {
        if (loginAt === 0) loginAt = receivedAt;
        if (numberAt(bytes, errno.find(bytes, start, end)) !== 0) tally.fail(bytes.toString("utf8", start, end));
        tally.delivered++;
        tally.check();
      }
    };
    peer.onClose = () => tally.fail("a receiver's connection was closed");
  };
  const startedAt = performance.now();
  for (const [i, peer] of peers.entries()) {
    listen(peer);
    peer.send(encodeText(JSON.stringify({ msgId: MsgId.login, id: ids[i], password: PASSWORD })));
  }
  await tally.settle(LATE_MS);
  const seconds = (performance.now() - startedAt) / 1000;
  await leave(peers);
  return { seconds, loginMs: loginAt - startedAt, firstMs: missing > 0 ? firstAt - startedAt : 0 };
}
