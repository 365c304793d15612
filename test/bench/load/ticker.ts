// A thread that says when the time has come: the runtime's own timers are a millisecond coarse, and a loop that spins would
// take a processor from the server.
declare const self: Worker;

export interface Schedule {
  /** Milliseconds since 1970 of tick 0, and between the ticks. */
  startAt: number;
  everyMs: number;
}

self.onmessage = ({ data: { startAt, everyMs } }: MessageEvent<Schedule>) => {
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (let tick = 0; ; tick++) {
    const left = startAt + tick * everyMs - (performance.timeOrigin + performance.now());
    if (left > 0) Atomics.wait(never, 0, 0, left);
    self.postMessage(tick);
  }
};
