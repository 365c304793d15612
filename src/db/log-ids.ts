// The ids of conversations by what names them: they never change, so that who knows one need not ask the database.
import type { Conversation, LogKey } from "./db.ts";

const MAX_KNOWN = 200_000;

const nameOf = (kind: number, lo: number, hi: number): string => `${kind}/${lo}/${hi}`;

export class LogIds {
  private readonly known = new Map<string, number>();

  /** The conversations whose ids are known, with nothing else that is theirs, and the keys of the others. */
  find(keys: LogKey[]): { found: Conversation[]; unknown: LogKey[] } {
    const found: Conversation[] = [];
    const unknown: LogKey[] = [];
    for (const key of keys) {
      const [kind, lo, hi] = key;
      const id = this.known.get(nameOf(kind, lo, hi));
      if (id === undefined) unknown.push(key);
      else found.push({ id, kind, lo, hi, last_seq: 0, member_ver: 0 });
    }
    return { found, unknown };
  }

  add({ id, kind, lo, hi }: Conversation): void {
    this.known.set(nameOf(kind, lo, hi), id);
    if (this.known.size > MAX_KNOWN) this.known.delete(this.known.keys().next().value!);
  }

  forget({ kind, lo, hi }: Conversation): void {
    this.known.delete(nameOf(kind, lo, hi));
  }

  clear(): void {
    this.known.clear();
  }
}
