// Latencies in buckets that grow with them: 1.5 % wide, from a microsecond to half an hour. Recording costs the load little.

/** Buckets of one power of two. */
const FINE = 64;
const FINE_BITS = 6;
const POWERS = 27;
const MOST_MICROSECONDS = 2 ** 31 - 1;

export class Histogram {
  private readonly counts = new Uint32Array(FINE * POWERS);
  private total = 0;

  record(ms: number): void {
    const value = Math.max(0, Math.min(MOST_MICROSECONDS, ms * 1000)) | 0;
    const shift = Math.max(0, 31 - Math.clz32(value) - FINE_BITS);
    this.counts[shift * FINE + (value >> shift)]!++;
    this.total++;
  }

  /** Milliseconds below which `share` of the values lie; 0 where there is none. */
  percentile(share: number): number {
    let left = share * this.total;
    if (left === 0) return 0;
    for (let at = 0; at < this.counts.length; at++) {
      left -= this.counts[at]!;
      if (left <= 0) return middle(at) / 1000;
    }
    return middle(this.counts.length - 1) / 1000;
  }
}

/** The value in the middle of a bucket, in microseconds. */
function middle(bucket: number): number {
  const shift = Math.max(0, Math.floor(bucket / FINE) - 1);
  return (bucket - shift * FINE + 0.5) * 2 ** shift;
}
