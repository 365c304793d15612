// Chat messages on their way into the log, as series: what a device sends to a conversation at once (db/series.ts).
import { Pieces } from "../db/db.ts";
import { BETWEEN, escaped, innerOf, isAbove, isCountable, isDivisible, listOf } from "../db/series.ts";

export interface Draft {
  conv: string;
  /** The msgId of the push. */
  kind: number;
  sender: number;
  device: number;
  mid: string | null;
  /** Milliseconds since 1970 UTC. */
  time: number;
  text: string;
}

/**
 * Series, column by column, because that crosses threads cheapest. With them go Pieces, made by `innerOf`: each series'
 * mids ("": none), then its texts. Where every series has one message and `counts` is null: each one's text, or all
 * texts as one divisible piece.
 */
export interface Drafts {
  convs: string[];
  kinds: number[];
  senders: number[];
  devices: number[];
  times: number[];
  /** The first mid of each series. */
  lows: (string | null)[];
  /** The last mid and the number of messages of each; or both are null, where each has one. */
  tops: (string | null)[] | null;
  counts: number[] | null;
}

/** Characters of a series, about: a run of the embedded database (RUN_SIZE) holds it whole; runs should be alike. */
const SERIES_SIZE = 2_300;
/** Characters of a message beside its text and mid. */
const MESSAGE_SIZE = 6;

/** Groups messages into series, keeping their order. */
export class DraftsBuilder {
  private readonly convs: string[] = [];
  private readonly kinds: number[] = [];
  private readonly senders: number[] = [];
  private readonly devices: number[] = [];
  private readonly times: number[] = [];
  private readonly counts: number[] = [];
  /** The mids of all messages. */
  private readonly mids: (string | null)[] = [];
  private readonly texts: string[] = [];
  /** Index of the series being built, and its characters so far. */
  private last = -1;
  private size = 0;
  /** The last message's mid, and whether it is countable. */
  private mid: string | null = null;
  private isCounted = false;

  add(
    conv: string,
    kind: number,
    sender: number,
    device: number,
    time: number,
    mid: string | null,
    text: string,
  ): void {
    const size = text.length + (mid === null ? 0 : mid.length) + MESSAGE_SIZE;
    const isCounted = mid !== null && isCountable(mid);
    const { last } = this;
    const follows =
      last >= 0 &&
      this.size + size <= SERIES_SIZE &&
      sender === this.senders[last] &&
      device === this.devices[last] &&
      kind === this.kinds[last] &&
      time === this.times[last] &&
      conv === this.convs[last] &&
      (mid === null ? this.mid === null : isCounted && this.isCounted && isAbove(mid, this.mid!));
    if (follows) {
      this.counts[last]!++;
      this.size += size;
    } else {
      this.last++;
      this.convs.push(conv);
      this.kinds.push(kind);
      this.senders.push(sender);
      this.devices.push(device);
      this.times.push(time);
      this.counts.push(1);
      this.size = size;
    }
    this.mid = mid;
    this.isCounted = isCounted;
    this.mids.push(mid);
    this.texts.push(text);
  }

  done(): [Drafts, Pieces] {
    const { convs, kinds, senders, devices, times, counts, mids, texts } = this;
    const common = { convs, kinds, senders, devices, times };
    const all = counts.length === texts.length ? innerOf(texts) : null;
    if (all !== null && isDivisible(all))
      return [{ ...common, lows: mids, tops: null, counts: null }, new Pieces([all])];
    const pieces: string[] = [];
    const lows: (string | null)[] = [];
    const tops: (string | null)[] = [];
    let at = 0;
    for (const count of counts) {
      const end = at + count;
      const low = mids[at]!;
      lows.push(low);
      tops.push(mids[end - 1]!);
      pieces.push(low === null ? "" : innerOf(mids.slice(at, end) as string[]), innerOf(texts.slice(at, end)));
      at = end;
    }
    return [{ ...common, lows, tops, counts }, new Pieces(pieces)];
  }
}

/** Each message as a series of its own. */
export function singlesOf(messages: Draft[]): [Drafts, Pieces] {
  return [
    {
      convs: messages.map(({ conv }) => conv),
      kinds: messages.map(({ kind }) => kind),
      senders: messages.map(({ sender }) => sender),
      devices: messages.map(({ device }) => device),
      times: messages.map(({ time }) => time),
      lows: messages.map(({ mid }) => mid),
      tops: null,
      counts: null,
    },
    new Pieces(messages.map(({ text }) => escaped(text))),
  ];
}

/** For each series its mids and its texts, in the form that Series has them. */
export function contentsOf({ lows, counts }: Drafts, { list }: Pieces): { mids: (string | null)[]; bodies: string[] } {
  if (counts === null) {
    const bodies = list.length === lows.length ? list : list[0]!.split(BETWEEN);
    return { mids: lows.map((mid) => (mid === null ? null : escaped(mid))), bodies };
  }
  return {
    mids: lows.map((low, i) => (low === null ? null : list[2 * i]!)),
    bodies: lows.map((_, i) => list[2 * i + 1]!),
  };
}

/** The messages of all series, in their order. */
export function messagesOf(drafts: Drafts, pieces: Pieces): Draft[] {
  const { convs, kinds, senders, devices, times } = drafts;
  const { mids, bodies } = contentsOf(drafts, pieces);
  const messages: Draft[] = [];
  for (let i = 0; i < convs.length; i++) {
    const [conv, kind, sender, device, time] = [convs[i]!, kinds[i]!, senders[i]!, devices[i]!, times[i]!];
    const inner = mids[i]!;
    const own = inner === null ? [] : listOf(inner);
    const texts = listOf(bodies[i]!);
    for (let k = 0; k < texts.length; k++)
      messages.push({ conv, kind, sender, device, mid: own[k] ?? null, time, text: texts[k]! });
  }
  return messages;
}
