// What was sent, acknowledged and told to each device, and whether it fits together. It keeps twelve bytes for each
// message, so that millions can be counted, and finds what is wrong while it runs.

/** Numbers by their place, from 0 on; 0 where there is none. */
export class Column {
  private values = new Uint32Array(1024);

  get(at: number): number {
    return this.values[at] ?? 0;
  }

  set(at: number, value: number): void {
    if (at >= this.values.length) {
      const larger = new Uint32Array(Math.max(at + 1, 2 * this.values.length));
      larger.set(this.values);
      this.values = larger;
    }
    this.values[at] = value;
  }
}

/** What must never happen; each is a column of the table. */
export const BAD = {
  lost: "acknowledged, or told to others, and not told to a device that should have been",
  doubled: "one message at two places, or told twice where that must not be",
  disorder: "told or stored in another order than it was sent in, or a place with two messages",
  invented: "told or stored, and never sent",
  late: "acknowledged, and not told to a device that is online until another message came: seen at the end",
  stuck: "not acknowledged within 90 s, or not in the end",
  refused: "sends refused for good, and sessions ended that nobody took over",
  gaps: "places in the store without a message",
  died: "servers that ended by themselves, ended wrongly or did not end when they were told to",
  soak: "faults that could not be injected or lifted: flaws of the soak itself",
} as const;
export type Bad = keyof typeof BAD;

/** The first so many of each kind are told in words. */
const EXAMPLES = 10;

export class Findings {
  readonly counts = Object.fromEntries(Object.keys(BAD).map((bad) => [bad, 0])) as Record<Bad, number>;
  readonly examples: string[] = [];

  constructor(private readonly tell: (line: string) => void = () => undefined) {}

  add(bad: Bad, what: string): void {
    if (++this.counts[bad] > EXAMPLES) return;
    this.examples.push(`${bad}: ${what}`);
    this.tell(`BAD ${bad}: ${what}`);
  }

  get total(): number {
    return Object.values(this.counts).reduce((sum, count) => sum + count, 0);
  }
}

/** One device's messages into one conversation: numbered from 0 on, each with a mid of its own. */
export class Flow {
  /** How many were sent. */
  count = 0;
  acked = 0;
  /** performance.now() of the last sends and acknowledgements, by number. */
  readonly sentAt = new Float64Array(RECENT);
  readonly ackedAt = new Float64Array(RECENT);
  /** The seq of each, as it was told or acknowledged. */
  readonly seqs = new Column();
  /** The seq of each that has been read from the store. */
  readonly stored = new Column();
  /** The highest acknowledged seq. */
  lastAcked = 0;

  constructor(
    readonly index: number,
    readonly account: Account,
    /** Messages under way at once. With one, they are stored in the order of sending. */
    readonly window: number,
  ) {}

  get conversation(): Conversation {
    return this.account.conversation;
  }
}
/** More than any flow's window. */
export const RECENT = 32;

/** A device in a conversation. */
export class Account {
  /** The seq that it was told last. */
  last: number;
  /** Seqs below it that it was not told and are not known to be its own. */
  readonly holes = new Set<number>();
  /** A device that does not confirm has a new connection: what was on its way by the old one does not come again. */
  mayHaveMissed = false;

  constructor(
    readonly conversation: Conversation,
    /** Of the device. */
    readonly owner: { readonly name: string; readonly confirms: boolean },
  ) {
    this.last = conversation.base;
  }
}

export class Conversation {
  readonly accounts: Account[] = [];
  /** By seq: the flow's index + 1, and the message's number in it. */
  readonly flows = new Column();
  readonly numbers = new Column();
  head: number;

  constructor(
    readonly name: string,
    /** What is counted has seqs above it. */
    readonly base: number,
  ) {
    this.head = base;
  }
}

export class Ledger {
  readonly flows: Flow[] = [];
  readonly conversations = new Map<string, Conversation>();
  sent = 0;
  acked = 0;
  told = 0;
  /** What came again to a device whose program had been replaced. */
  repeats = 0;
  /** Conversations that began again with what was known, on a new connection of a device that does not confirm. */
  again = 0;
  /** What was on its way to devices that do not confirm when their connection was lost. */
  missed = 0;

  constructor(readonly findings: Findings) {}

  addConversation(name: string, base: number): Conversation {
    const conversation = new Conversation(name, base);
    this.conversations.set(name, conversation);
    return conversation;
  }

  addFlow(account: Account, window: number): Flow {
    const flow = new Flow(this.flows.length, account, window);
    this.flows.push(flow);
    return flow;
  }

  /** The number of the message that is sent now. */
  send(flow: Flow): number {
    const number = flow.count++;
    flow.sentAt[number % RECENT] = performance.now();
    flow.ackedAt[number % RECENT] = 0;
    this.sent++;
    return number;
  }

  ack(flow: Flow, number: number, seq: number): void {
    this.acked++;
    flow.acked++;
    flow.ackedAt[number % RECENT] = performance.now();
    if (flow.window === 1 && seq <= flow.lastAcked)
      this.findings.add("disorder", `${nameOf(flow, number)} is ${seq}, after ${flow.lastAcked}`);
    flow.lastAcked = Math.max(seq, flow.lastAcked);
    this.place(flow, number, seq);
    flow.account.holes.delete(seq);
  }

  /** A device was told a message, for the first time or again. The flow that it is of, where it was the first time. */
  tell(account: Account, seq: number, text: string): { flow: Flow; number: number } | null {
    const { conversation, owner } = account;
    if (seq <= conversation.base) return null;
    const message = this.read(text);
    const what = `${conversation.name} ${seq} to ${owner.name}`;
    if (message === null || message.flow.conversation !== conversation) {
      this.findings.add("invented", `${what}: ${text.slice(0, 40)}`);
      return null;
    }
    if (message.flow.account === account) this.findings.add("doubled", `${what}: its own`);
    this.place(message.flow, message.number, seq);
    if (seq <= account.last) {
      this.repeats++;
      return null;
    }
    this.told++;
    this.skip(account, seq);
    account.last = seq;
    return message;
  }

  /** What was not told between the last one and `seq`: only the device's own messages may stand there. */
  private skip(account: Account, seq: number): void {
    const { mayHaveMissed } = account;
    account.mayHaveMissed = false;
    for (let each = account.last + 1; each < seq; each++) {
      if (this.isOwn(account, each)) continue;
      if (mayHaveMissed) this.missed++;
      else account.holes.add(each);
    }
  }

  private isOwn(account: Account, seq: number): boolean {
    return this.flowAt(account.conversation, seq)?.account === account;
  }

  flowAt(conversation: Conversation, seq: number): Flow | undefined {
    return this.flows[conversation.flows.get(seq) - 1];
  }

  /** Each message has one place, and each place one message. */
  place(flow: Flow, number: number, seq: number): void {
    const { conversation } = flow;
    const known = flow.seqs.get(number);
    if (known === seq) return;
    if (known !== 0)
      return this.findings.add("doubled", `${nameOf(flow, number)} is ${known} and ${seq} of ${conversation.name}`);
    const other = this.flowAt(conversation, seq);
    if (other !== undefined) {
      const both = `${nameOf(other, conversation.numbers.get(seq))} and ${nameOf(flow, number)}`;
      return this.findings.add("disorder", `${both} are both ${seq} of ${conversation.name}`);
    }
    flow.seqs.set(number, seq);
    conversation.flows.set(seq, flow.index + 1);
    conversation.numbers.set(seq, number);
    conversation.head = Math.max(conversation.head, seq);
  }

  /** A text's message; null where none such was sent. */
  read(text: string): { flow: Flow; number: number } | null {
    const [index, count] = text.split(":", 2);
    const [flow, number] = [this.flows[Number(index)], Number(count)];
    if (flow === undefined || !(number < flow.count) || text !== textOf(flow, number)) return null;
    return { flow, number };
  }

  /** Counts as lost what a device was not told and is known to be another's. */
  check(): void {
    for (const { accounts } of this.conversations.values())
      for (const account of accounts)
        for (const seq of account.holes) {
          const flow = this.flowAt(account.conversation, seq);
          if (flow === undefined) continue;
          account.holes.delete(seq);
          if (flow.account !== account) this.lose(account, seq);
        }
  }

  private lose(account: Account, seq: number): void {
    const { conversation, owner } = account;
    const flow = this.flowAt(conversation, seq);
    const what = flow === undefined ? "nobody knows which" : nameOf(flow, conversation.numbers.get(seq));
    this.findings.add("lost", `${conversation.name} ${seq} (${what}) to ${owner.name}, told up to ${account.last}`);
  }

  /** What was not told to a device, of all that is known to be stored. */
  *behind(): Generator<{ account: Account; seq: number }> {
    for (const conversation of this.conversations.values())
      for (const account of conversation.accounts)
        for (let seq = account.last + 1; seq <= conversation.head; seq++)
          if (!this.isOwn(account, seq)) yield { account, seq };
  }

  /** Of those, what is bound to come by itself: it is not known to have been on its way to a connection that was lost. */
  *due(): Generator<{ account: Account; seq: number }> {
    for (const each of this.behind()) if (!each.account.mayHaveMissed) yield each;
  }

  /** When nothing more is sent and all are online: what has not come by now waits for another message. */
  checkLate(): void {
    for (const { account, seq } of this.due())
      this.findings.add("late", `${account.conversation.name} ${seq} to ${account.owner.name}`);
  }

  get isComplete(): boolean {
    return this.behind().next().done === true;
  }

  /** In the end: everything missing is lost. */
  close(): void {
    this.check();
    for (const { accounts } of this.conversations.values())
      for (const account of accounts) for (const seq of account.holes) this.lose(account, seq);
    for (const { account, seq } of this.behind()) this.lose(account, seq);
  }
}

export const nameOf = (flow: Flow, number: number): string => `${flow.account.owner.name}'s ${flow.index}:${number}`;

/** One text in so many is long. */
const LONG_EVERY = 701;
const PADDING = "The quick brown fox jumps over the lazy dog. ".repeat(800);

/** The text of a message, from which it can be told which it is, and that it is whole. */
export const textOf = (flow: Flow, number: number): string =>
  `${flow.index}:${number}:${PADDING.slice(0, number % LONG_EVERY === LONG_EVERY - 1 ? 30_000 : (number * 7) % 150)}`;

/** Most programs count; others draw lots, or write words: the server must know each again. */
export function midOf({ index }: Flow, number: number): string {
  const counted = `${index}:${number}`;
  if (index % 4 === 2) return `${Bun.hash.crc32(counted).toString(36)}:${counted}`;
  return index % 4 === 3 ? `Nº ${counted}` : counted;
}
