// Chance that can be had again: the same seed gives the same numbers.

/** mulberry32 (Tommy Ettinger): 32 bits of state are enough to choose faults. */
export class Random {
  private state: number;

  constructor(readonly seed: number) {
    this.state = seed >>> 0;
  }

  /** From 0 to below 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from `min` to `max`. */
  int(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  /** A time from `min` to `max` milliseconds, short ones more often than long ones: each power is as likely. */
  ms(min: number, max: number): number {
    return Math.round(min * (max / min) ** this.next());
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<Of>(from: readonly Of[]): Of {
    return from[this.int(0, from.length - 1)]!;
  }

  /** `count` different ones. */
  sample<Of>(from: readonly Of[], count: number): Of[] {
    return this.shuffle(from).slice(0, count);
  }

  shuffle<Of>(from: readonly Of[]): Of[] {
    const all = [...from];
    for (let at = all.length - 1; at > 0; at--) {
      const other = this.int(0, at);
      [all[at], all[other]] = [all[other]!, all[at]!];
    }
    return all;
  }

  /** Another source, which what is drawn here later does not change. */
  fork(): Random {
    return new Random(this.int(0, 2 ** 32 - 1));
  }
}
