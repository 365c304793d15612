// The bare relay: same framing and JSON work as the server, and no store, no order, no limits. What the reactor could do.
import type { Socket } from "bun";
import { Decoder, encode, Fault } from "../../src/net/codec.ts";
import { clock, type Message, MsgId } from "../../src/protocol.ts";

interface Peer {
  decoder: Decoder;
  userId: number;
  texts: string[];
  unsent: Buffer;
}

const users = new Map<number, Socket<Peer>>();
let dirty = new Set<Socket<Peer>>();
const scratch = Buffer.allocUnsafe(8 * 1024 * 1024);
const EMPTY = Buffer.alloc(0);

function send(socket: Socket<Peer>, text: string): void {
  socket.data.texts.push(text);
  if (dirty.size === 0) setImmediate(flush);
  dirty.add(socket);
}

function flush(): void {
  const sockets = dirty;
  dirty = new Set();
  for (const socket of sockets) write(socket);
}

function write(socket: Socket<Peer>): void {
  const peer = socket.data;
  if (peer.unsent.length > 0) {
    peer.unsent = peer.unsent.subarray(Math.max(0, socket.write(peer.unsent)));
    if (peer.unsent.length > 0) return;
  }
  let end = 0;
  for (const text of peer.texts) end = encode(text, "length", scratch, end);
  peer.texts = [];
  if (end === 0) return;
  const accepted = Math.max(0, socket.write(scratch.subarray(0, end)));
  if (accepted < end) peer.unsent = Buffer.from(scratch.subarray(accepted, end));
}

let seq = 0;

function take(socket: Socket<Peer>, { msgId, id, toid, msg, reqId, mid }: Message): void {
  if (msgId === MsgId.login) {
    socket.data.userId = id as number;
    users.set(id as number, socket);
    return send(socket, JSON.stringify({ msgId: MsgId.loggedIn, reqId, errno: 0, id }));
  }
  const ts = Date.now();
  const time = clock(ts);
  const conv = "u:1-2";
  const fromid = socket.data.userId;
  seq++;
  send(socket, JSON.stringify({ msgId: MsgId.answer, ack: msgId, reqId, errno: 0, mid, conv, seq, time, ts }));
  const receiver = users.get(toid as number);
  const push = { msgId, fromid, id: fromid, name: `user${fromid}`, toid, msg, time, ts, conv, seq, mid };
  if (receiver !== undefined) send(receiver, JSON.stringify(push));
}

const listener = Bun.listen<Peer>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(socket) {
      socket.data = { decoder: new Decoder(65_536), userId: 0, texts: [], unsent: EMPTY };
      socket.setNoDelay(true);
    },
    data(socket, chunk) {
      const { decoder } = socket.data;
      decoder.push(chunk);
      for (let next = decoder.next(); next !== null; next = decoder.next())
        if (!(next instanceof Fault)) take(socket, next);
    },
    drain: write,
  },
});
process.stdout.write(`listening on 127.0.0.1:${listener.port}\n`);
