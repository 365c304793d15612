// What is stored for a session: read at its login, and when hints of others' commits may have been missed.
import { type Behind, byTime, STARTS_AT_ONCE } from "../model/device.ts";
import type { Store } from "../model/store.ts";
import { refuseEnded, type Session } from "./session.ts";

/** Notes which conversations the session is behind in; returns by how many rows. Throws errno 21 if it has ended. */
export async function readBehind(store: Store, session: Session): Promise<number> {
  const { behind, offline } = await behindOf(store, session);
  refuseEnded(session);
  for (const [conversation, conv, delivered, head] of behind) {
    const position = session.position(conversation, conv);
    if (position.at === null) position.start(delivered);
    position.head = Math.max(position.head, head);
    if (position.head > position.at!) session.markBehind(position);
  }
  return offline;
}

/** Oldest next row first. For very many conversations the store is asked in portions, to serve others in between. */
async function behindOf(store: Store, session: Session): Promise<{ behind: Behind[]; offline: number }> {
  const { behind, rows, offline } = await store.missingOf(session.userId, session.deviceId);
  if (offline !== null) return { behind, offline };
  const times: number[] = [];
  let own = 0;
  for (let from = 0; from < behind.length; from += STARTS_AT_ONCE) {
    refuseEnded(session);
    const starts = await store.startsOf(session.deviceId, behind.slice(from, from + STARTS_AT_ONCE), rows);
    for (const time of starts.times) times.push(time);
    own += starts.own;
  }
  return { behind: byTime(behind, times), offline: rows - own };
}
