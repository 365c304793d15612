// Messages as clients send them, put together in series as the server does.
import type { Pieces } from "../../src/db/db.ts";
import { type Draft, type Drafts, DraftsBuilder } from "../../src/model/drafts.ts";
import { type Appended, placesOf } from "../../src/model/message.ts";

export function draftsOf(messages: Draft[]): [Drafts, Pieces] {
  const builder = new DraftsBuilder();
  for (const { conv, kind, sender, device, time, mid, text } of messages)
    builder.add(conv, kind, sender, device, time, mid, text);
  return builder.done();
}

/** What was appended, by message in place of by series. */
export const byMessage = (appended: Appended): Appended => ({ ...appended, ...placesOf(appended) });
