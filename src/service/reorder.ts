// Instances write to one conversation at the same time, so the hint of a row can arrive before that of its predecessor.
// Early ones are held for a moment: passed on, they would make every session here read the predecessor from the store.

/** How long to wait for the predecessor; then it counts as lost, and the sessions read it. */
const WAIT_MS = 50;
/** Hints are held only where one follows another this fast: elsewhere a gap means rows that nobody told us of. */
const BUSY_MS = 1_000;
const MAX_HELD = 1_000;
const MAX_CONVERSATIONS = 10_000;

interface ConversationState<Item> {
  /** The highest seq passed on, and when: performance.now(). */
  last: number;
  at: number;
  /** Early items by seq; null where there are none. */
  held: Map<number, Item> | null;
  timer: Timer | undefined;
}

export class Reorder<Item> {
  private readonly conversations = new Map<number, ConversationState<Item>>();

  /** `pass` gets every item, in the order of its conversation's seqs as far as that is known. */
  constructor(private readonly pass: (item: Item) => void) {}

  take(conversation: number, seq: number, item: Item): void {
    const now = performance.now();
    const state = this.conversations.get(conversation);
    if (state === undefined) {
      // Forgetting only costs reads. States with a timer are kept alive by it, and pass on what they hold.
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

  private hold(state: ConversationState<Item>, seq: number, item: Item): void {
    state.held ??= new Map();
    state.held.set(seq, item);
    state.timer ??= setTimeout(() => this.giveUp(state), WAIT_MS);
    if (state.held.size > MAX_HELD) this.giveUp(state);
  }

  /** Passes on the held items that now follow without a gap. */
  private passReady(state: ConversationState<Item>, held: Map<number, Item>): void {
    for (let item = held.get(state.last + 1); item !== undefined; item = held.get(state.last + 1)) {
      held.delete(++state.last);
      this.pass(item);
    }
    clearTimeout(state.timer);
    state.timer = held.size > 0 ? setTimeout(() => this.giveUp(state), WAIT_MS) : undefined;
    if (held.size === 0) state.held = null;
  }

  private giveUp(state: ConversationState<Item>): void {
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
