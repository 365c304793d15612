// What is stored for a session: read at its log-in, and where what others have committed may have been missed.
import { type Behind, byTime, STARTS_AT_ONCE } from "../model/device.ts";
import type { Store } from "../model/store.ts";
import { refuseEnded, type Session } from "./session.ts";

/** Notes what the session lacks; returns how many rows that is. Throws errno 21 where it has ended. */
export async function readMissing(store: Store, session: Session): Promise<number> {
  const { behind, offline } = await missingOf(store, session);
  refuseEnded(session);
  for (const [conversation, conv, delivered, head] of behind) {
    const position = session.position(conversation, conv);
    if (position.at === null) position.start(delivered);
    position.head = Math.max(position.head, head);
    if (position.head > position.at!) session.lack(position);
  }
  return offline;
}

/** Oldest next row first. Where it is in very many conversations, it is asked for in portions: others are served in between. */
async function missingOf(store: Store, session: Session): Promise<{ behind: Behind[]; offline: number }> {
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
