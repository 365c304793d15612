// Handlers of chat messages, and of the confirmation of those received.
import * as field from "../protocol.ts";
import { ChatError, Errno, groupConv, invalid, MAX_FRAME_BYTES } from "../protocol.ts";
import type { Context, Reply, Request } from "./handler.ts";
import type { Session } from "./session.ts";

/** Upper bound for the bytes of a push without its text. */
const PUSH_FIELDS = 2_048;

/**
 * {"msgId":1004,"toid":2,"msg":"hello","mid":"a1"} -> {"msgId":1010,"ack":1004,"mid":"a1","errno":0,"seq":1,"time":"…"}
 * once it is stored; without `reqId` and `mid` a stored message gets no answer.
 */
export function chat({ committer }: Context, request: Request, session: Session): null {
  const { message } = request;
  field.ownIds(message, session.userId);
  const { conv, key } = session.targetOf(field.id(message, "toid"));
  send(committer, request, session, conv, key);
  return null;
}

/**
 * {"msgId":1008,"groupid":3,"msg":"hi","mid":"a2"} -> {"msgId":1010,"ack":1008,"mid":"a2","errno":0,"seq":7,"time":"…"}
 */
export function groupChat({ committer }: Context, request: Request, session: Session): null {
  const { message } = request;
  field.ownIds(message, session.userId);
  const groupId = field.id(message, "groupid");
  send(committer, request, session, groupConv(groupId), { kind: "g", lo: groupId, hi: 0 });
  return null;
}

function send(
  committer: Context["committer"],
  { connection, slot, message, reqId }: Request,
  session: Session,
  conv: string,
  key: field.ConvKey,
): void {
  const text = field.text(message, "msg", 0, MAX_FRAME_BYTES);
  const mid = field.mid(message);
  refuseTooLarge(text);
  const deviceId = session.deviceId;
  const at = committer.turnAt;
  committer.add({ connection, slot, session, deviceId, msgId: message.msgId, reqId, conv, key, mid, text, at });
}

/** The push, with escapes and the fields around the text, must fit a frame. Throws errno 15. */
export function refuseTooLarge(text: string): void {
  if (text.length > MAX_FRAME_BYTES / 8 && Buffer.byteLength(JSON.stringify(text)) > MAX_FRAME_BYTES - PUSH_FIELDS)
    throw new ChatError(Errno.tooLarge, "msg: too large to be delivered");
}

/** {"msgId":1011,"conv":"u:1-2","seq":9} -> {"msgId":1010,"ack":1011,"errno":0} */
export function confirm({ store }: Context, { message }: Request, session: Session): Reply | Promise<Reply> {
  const conv = field.conv(message);
  const seq = field.integer(message, "seq", 1, Number.MAX_SAFE_INTEGER);
  const confirmed = (pushed: number): Reply => {
    if (seq > pushed) throw invalid("seq", `higher than anything pushed to this device in ${conv}`);
    return { fields: {} };
  };
  const position = session.byConv.get(conv);
  // The session holds no position for it: it was pushed, and confirmed, in an earlier session or long ago.
  if (position === undefined || position.at === null)
    return store.deliveredOf([session.userId, session.deviceId], conv).then(confirmed);
  const reply = confirmed(position.pushed);
  if (session.confirms) position.markDelivered(seq);
  return reply;
}
