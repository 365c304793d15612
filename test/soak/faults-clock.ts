// The clock of one instance's machine is wrong: by an hour, forward and back, at once.
import { type Clock, makeClock } from "./faketime.ts";
import type { Fault } from "./fault.ts";

/** The instance that has a clock of its own. */
export const CLOCK_INSTANCE = 1;
const HOUR_S = 3_600;

let made: Clock | string | undefined;

/** The one clock; or, where none can be made on this machine, why not. */
export function theClock(): Clock | string {
  made ??= makeClock();
  return made;
}

const jump = (name: string, seconds: number): Fault => ({
  name,
  unavailable: () => {
    const clock = theClock();
    return typeof clock === "string" ? clock : null;
  },
  async inject(world) {
    const clock = theClock();
    if (typeof clock === "string") return;
    const release = await world.claim("clock");
    try {
      world.begin(`instance ${CLOCK_INSTANCE}`);
      clock.move(seconds);
      await world.wait(world.random.ms(500, 15_000));
      clock.move(0);
    } finally {
      release();
    }
  },
});

export const clockFaults: Fault[] = [jump("clock an hour forward", HOUR_S), jump("clock an hour back", -HOUR_S)];
