// Instances write to one conversation at the same time, so a row can be heard of before the one ahead of it, which is on
// its way. What is early is held for a moment: passed on, it would make every session here read the other from the store.

/** How long the row ahead is waited for; then it is taken for lost, and the sessions read it. */
const WAIT_MS = 50;
/** Only where one row follows another this fast is something held: elsewhere a gap tells of rows that nobody here was told. */
const BUSY_MS = 1_000;
const MAX_HELD = 1_000;
const MAX_CONVERSATIONS = 10_000;

interface Conversation<Item> {
  /** The highest seq that was passed on, and when: performance.now(). */
  last: number;
  at: number;
  /** What is early, by seq; null where nothing is. */
  held: Map<number, Item> | null;
  timer: Timer | undefined;
}

export class Reorder<Item> {
  private readonly conversations = new Map<number, Conversation<Item>>();

  /** `pass` gets everything that is taken, in the order of a conversation's seqs as far as that is known. */
  constructor(private readonly pass: (item: Item) => void) {}

  take(conversation: number, seq: number, item: Item): void {
    const now = performance.now();
    const state = this.conversations.get(conversation);
    if (state === undefined) {
      // Forgetting costs reads alone. Those with a timer are referred to by it, and pass on what they hold.
      if (this.conversations.size >= MAX_CONVERSATIONS) this.conversations.clear();
      this.conversations.set(conversation, { last: seq, at: now, held: null, timer: undefined });
      return this.pass(item);
    }
    if (seq > state.last + 1 && (state.held !== null || now - state.at < BUSY_MS)) return this.hold(state, seq, item);
    if (seq > state.last) state.last = seq;
    state.at = now;
    this.pass(item);
    if (state.held !== null) this.passReady(state, state.held);
  }

  private hold(state: Conversation<Item>, seq: number, item: Item): void {
    state.held ??= new Map();
    state.held.set(seq, item);
    state.timer ??= setTimeout(() => this.giveUp(state), WAIT_MS);
    if (state.held.size > MAX_HELD) this.giveUp(state);
  }

  /** What follows without a gap. */
  private passReady(state: Conversation<Item>, held: Map<number, Item>): void {
    for (let item = held.get(state.last + 1); item !== undefined; item = held.get(state.last + 1)) {
      held.delete(++state.last);
      this.pass(item);
    }
    clearTimeout(state.timer);
    state.timer = held.size > 0 ? setTimeout(() => this.giveUp(state), WAIT_MS) : undefined;
    if (held.size === 0) state.held = null;
  }

  private giveUp(state: Conversation<Item>): void {
    clearTimeout(state.timer);
    state.timer = undefined;
    const held = [...(state.held ?? [])].sort(([a], [b]) => a - b);
    state.held = null;
    state.at = performance.now();
    for (const [seq, item] of held) {
      state.last = Math.max(state.last, seq);
      this.pass(item);
    }
  }
}
