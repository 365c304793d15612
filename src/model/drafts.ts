// Chat messages on their way into the log, in series: what one device sends to one conversation at once (see db/series.ts).
import { Pieces } from "../db/db.ts";
import { isAbove, isCountable, listOf, parseList, quoted } from "../db/series.ts";

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

/** Series in columns, because that crosses threads cheapest. Beside them, as Pieces: each one's mids, and its texts. */
export interface Drafts {
  convs: string[];
  kinds: number[];
  senders: number[];
  devices: number[];
  times: number[];
  /** The first mid of each. */
  lows: (string | null)[];
  /** The last one, and how many messages it has: both empty where each is of one message. */
  tops: (string | null)[];
  counts: number[];
}

/** A series' characters, about: it is part of one run in the embedded database, which holds a little more than a page. */
const SERIES_SIZE = 2_300;
/** Of a message, beside its text and mid. */
const MESSAGE_SIZE = 6;

/** Puts messages together in series, in their order. */
export class DraftsBuilder {
  private readonly convs: string[] = [];
  private readonly kinds: number[] = [];
  private readonly senders: number[] = [];
  private readonly devices: number[] = [];
  private readonly times: number[] = [];
  private readonly counts: number[] = [];
  /** Of all messages. */
  private readonly mids: (string | null)[] = [];
  private readonly texts: string[] = [];
  /** The series under way. */
  private last = -1;
  private size = 0;
  /** The last mid, and whether it is countable. */
  private mid: string | null = null;
  private isCounted = false;

  /** `most`: a series' characters. */
  constructor(private readonly most = SERIES_SIZE) {}

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
      this.size + size <= this.most &&
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
    const pieces: string[] = [];
    const common = { convs, kinds, senders, devices, times };
    if (counts.length === texts.length) {
      for (const [i, text] of texts.entries()) pieces.push(quoted(mids[i]!), quoted(text));
      return [{ ...common, lows: mids, tops: [], counts: [] }, new Pieces(pieces)];
    }
    const lows: (string | null)[] = [];
    const tops: (string | null)[] = [];
    let at = 0;
    for (const count of counts) {
      const end = at + count;
      lows.push(mids[at]!);
      tops.push(mids[end - 1]!);
      pieces.push(listOf(mids.slice(at, end)), listOf(texts.slice(at, end)));
      at = end;
    }
    return [{ ...common, lows, tops, counts }, new Pieces(pieces)];
  }
}

export function draftsOf(messages: Iterable<Draft>, most?: number): [Drafts, Pieces] {
  const builder = new DraftsBuilder(most);
  for (const { conv, kind, sender, device, time, mid, text } of messages)
    builder.add(conv, kind, sender, device, time, mid, text);
  return builder.done();
}

/** The messages again, in their order. */
export function* messagesOf(
  { convs, kinds, senders, devices, times }: Drafts,
  { list }: Pieces,
): Generator<Draft, undefined> {
  for (const [i, conv] of convs.entries()) {
    const mids = parseList<string | null>(list[2 * i]!);
    const texts = parseList<string>(list[2 * i + 1]!);
    const common = { conv, kind: kinds[i]!, sender: senders[i]!, device: devices[i]!, time: times[i]! };
    for (const [j, text] of texts.entries()) yield { ...common, mid: mids[j]!, text };
  }
}
