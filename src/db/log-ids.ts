// The conversations' names, and a cache of their ids in the database. These never change, so a known one need not be
// asked for.
import { directConv, groupConv, parseConv } from "../protocol.ts";
import type { Conversation } from "./db.ts";

const MAX_KNOWN = 200_000;

/** The columns of the conversation table that make up a name, and their values. */
export const LOG_KEY = ["kind", "lo", "hi"];
export type LogKey = [kind: number, lo: number, hi: number];

export function logKeyOf(conv: string): LogKey {
  const { kind, lo, hi } = parseConv(conv)!;
  return [kind === "u" ? 0 : 1, lo, hi];
}

export const convName = ({ kind, lo, hi }: Pick<Conversation, "kind" | "lo" | "hi">): string =>
  kind === 0 ? directConv(lo, hi) : groupConv(lo);

type Known = Pick<Conversation, "id" | "kind" | "lo" | "hi">;

export class LogIds {
  private readonly known = new Map<string, Known>();

  /** The conversations whose ids are known, by name, with only their key and id filled in; and the other names. */
  find(convs: string[]): { found: Map<string, Conversation>; unknown: string[] } {
    const found = new Map<string, Conversation>();
    const unknown: string[] = [];
    for (const conv of convs) {
      const known = this.known.get(conv);
      if (known === undefined) unknown.push(conv);
      else found.set(conv, { id: known.id, kind: known.kind, lo: known.lo, hi: known.hi, last_seq: 0, member_ver: 0 });
    }
    return { found, unknown };
  }

  /** Remembers conversations read from the database, and adds them to `found`. */
  learn(read: Conversation[], found: Map<string, Conversation>): void {
    for (const conversation of read) {
      const { id, kind, lo, hi } = conversation;
      const conv = convName(conversation);
      found.set(conv, conversation);
      this.known.set(conv, { id, kind, lo, hi });
      if (this.known.size > MAX_KNOWN) this.known.delete(this.known.keys().next().value!);
    }
  }

  forget(conv: string): void {
    this.known.delete(conv);
  }

  clear(): void {
    this.known.clear();
  }
}
