// The login answer for first-generation clients (those that end their objects with NUL): arrays of strings, each
// holding a JSON object, with the first stored messages inside the answer.
import { type Json, type JsonObject, LEGACY_OFFLINE_MESSAGES, MsgId } from "../protocol.ts";
import type { Delivery } from "./delivery.ts";
import { pushText } from "./render.ts";
import type { Position, Session } from "./session.ts";

/**
 * Characters of stored messages inside the answer; the rest follows as pushes. Inside a string every quote is escaped
 * once more, and the whole must fit a frame.
 */
const OFFLINE_TEXT = 1024 * 1024;

const strings = (list: Json | undefined): string[] => (list as Json[]).map((each) => JSON.stringify(each));

/** The fields in the old shape, and a function to call once they are written: it pushes the events in between. */
export async function legacyLogin(
  delivery: Delivery,
  session: Session,
  fields: JsonObject,
): Promise<{ fields: JsonObject; pushRest(): void }> {
  const { messages, events, touched } = await takeOffline(delivery, session);
  const groups = (fields.groups as JsonObject[]).map((group) => ({ ...group, users: strings(group.users) }));
  const pushRest = () => {
    for (const event of events) session.connection.push(event);
    const seqs = [...touched].map((position) => [position, position.pushed] as const);
    const accepted = () => {
      for (const [position, seq] of seqs) position.markDelivered(seq);
    };
    if (!session.confirms) session.connection.markLast({ accepted });
  };
  return {
    fields: { ...fields, friends: strings(fields.friends), groups: strings(groups), offlinemsg: messages },
    pushRest,
  };
}

/** Takes the first stored messages for the answer, and moves the session's positions past them. */
async function takeOffline(delivery: Delivery, session: Session) {
  const messages: string[] = [];
  const events: string[] = [];
  const touched = new Set<Position>();
  let room = OFFLINE_TEXT;
  let full = false;
  while (session.behind.size > 0 && !full && !session.ended) {
    const { rows, names } = await delivery.readPage(session);
    for (const row of rows) {
      const [conversation, seq, kind, sender, device] = row;
      const position = session.positions.get(conversation)!;
      if (device === session.deviceId) {
        position.skip(seq);
        continue;
      }
      const text = pushText(row, position.conv, position.key, names.get(sender)!);
      full = messages.length >= LEGACY_OFFLINE_MESSAGES || text.length > room;
      if (full) break;
      (kind === MsgId.chat || kind === MsgId.groupChat ? messages : events).push(text);
      room -= text.length;
      position.markPushed(seq);
      touched.add(position);
    }
    session.dropCaughtUp();
    if (rows.length === 0) break;
  }
  return { messages, events, touched };
}
