// The bare relay: the same framing and JSON work as a chat server's, and no store, no order, no limits. What the reactor
// could do. It shares no code with the server, so that it stays the same yardstick when that changes.
import type { Socket } from "bun";
import { type JsonObject, MsgId } from "../../src/protocol.ts";

interface Peer {
  rest: Buffer;
  userId: number;
  texts: string[];
  unsent: Buffer;
}

const EMPTY = Buffer.alloc(0);
const HEADER_BYTES = 4;
const users = new Map<number, Socket<Peer>>();
let members: Socket<Peer>[] = [];
let dirty: Socket<Peer>[] = [];
let scratch = Buffer.allocUnsafe(1024 * 1024);

function send(socket: Socket<Peer>, text: string): void {
  if (socket.data.texts.push(text) > 1) return;
  if (dirty.push(socket) === 1) setImmediate(flush);
}

/** Ends the turn of the loop: what it made for a connection leaves as one write. */
function flush(): void {
  const sockets = dirty;
  dirty = [];
  for (const socket of sockets) write(socket);
}

function write(socket: Socket<Peer>): void {
  const peer = socket.data;
  if (peer.unsent.length > 0) {
    peer.unsent = peer.unsent.subarray(Math.max(0, socket.write(peer.unsent)));
    if (peer.unsent.length > 0) return;
  }
  const { texts } = peer;
  peer.texts = [];
  let room = 0;
  for (const text of texts) room += text.length * 3 + HEADER_BYTES;
  if (room > scratch.length) scratch = Buffer.allocUnsafe(room);
  let end = 0;
  for (const text of texts) {
    const bytes = scratch.write(text, end + HEADER_BYTES, "utf8");
    scratch.writeUInt32BE(bytes, end);
    end += HEADER_BYTES + bytes;
  }
  if (end === 0) return;
  const accepted = Math.max(0, socket.write(scratch.subarray(0, end)));
  if (accepted < end) peer.unsent = Buffer.from(scratch.subarray(accepted, end));
}

let seq = 0;
let clockSecond = -1;
let clockText = "";

function clock(ts: number): string {
  const second = Math.floor(ts / 1000);
  if (second !== clockSecond) {
    clockSecond = second;
    clockText = new Date(ts).toISOString().slice(0, 19).replace("T", " ");
  }
  return clockText;
}

function take(socket: Socket<Peer>, { msgId, id, toid, groupid, msg, reqId, mid }: JsonObject): void {
  const fromid = socket.data.userId;
  switch (msgId) {
    case MsgId.login:
      socket.data.userId = id as number;
      users.set(id as number, socket);
      return send(socket, JSON.stringify({ msgId: MsgId.loggedIn, reqId, errno: 0, id }));
    case MsgId.createGroup:
      members = [socket];
      return send(socket, JSON.stringify({ msgId: MsgId.answer, ack: msgId, reqId, errno: 0, groupid: 1 }));
    case MsgId.joinGroup:
      members.push(socket);
      return send(socket, JSON.stringify({ msgId: MsgId.answer, ack: msgId, reqId, errno: 0 }));
  }
  const ts = Date.now();
  const time = clock(ts);
  const conv = msgId === MsgId.chat ? "u:1-2" : "g:1";
  const name = `user${fromid}`;
  seq++;
  send(socket, JSON.stringify({ msgId: MsgId.answer, ack: msgId, reqId, errno: 0, mid, conv, seq, time, ts }));
  if (msgId === MsgId.chat) {
    const receiver = users.get(toid as number);
    const push = { msgId, fromid, id: fromid, name, toid, msg, time, ts, conv, seq, mid };
    if (receiver !== undefined) send(receiver, JSON.stringify(push));
  } else {
    const push = JSON.stringify({ msgId, id: fromid, name, groupid, msg, time, ts, conv, seq, mid });
    for (const member of members) if (member !== socket) send(member, push);
  }
}

const listener = Bun.listen<Peer>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(socket) {
      socket.data = { rest: EMPTY, userId: 0, texts: [], unsent: EMPTY };
      socket.setNoDelay(true);
    },
    data(socket, chunk) {
      const peer = socket.data;
      const bytes = peer.rest.length === 0 ? chunk : Buffer.concat([peer.rest, chunk]);
      let at = 0;
      while (bytes.length - at >= HEADER_BYTES) {
        const end = at + HEADER_BYTES + bytes.readUInt32BE(at);
        if (end > bytes.length) break;
        take(socket, JSON.parse(bytes.toString("utf8", at + HEADER_BYTES, end)));
        at = end;
      }
      peer.rest = at === bytes.length ? EMPTY : Buffer.from(bytes.subarray(at));
    },
    drain: write,
  },
});
process.stdout.write(`listening on 127.0.0.1:${listener.port}\n`);
