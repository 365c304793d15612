// What happens beside everything else in the embedded soak: to its clients and to the clock.
import type { SoakDevice } from "./device.ts";
import type { EmbeddedFault } from "./embedded-faults.ts";
import type { Clock } from "./faketime.ts";
import type { Instance, World } from "./fault.ts";
import { clientFaults } from "./faults-clients.ts";

const HOUR = 3_600;

/** `clock`: or why there is none. */
export function aside(clock: Clock | string, devices: SoakDevice[], only: Instance): EmbeddedFault[] {
  const jump: EmbeddedFault = {
    name: "clock an hour forward and back",
    weight: 3,
    beside: true,
    unavailable: async () => (typeof clock === "string" ? clock : null),
    async inject({ random, wait }) {
      for (const seconds of random.shuffle([HOUR, -HOUR, random.int(-HOUR, HOUR)])) {
        (clock as Clock).move(seconds);
        await wait(random.ms(100, 3_000));
      }
      (clock as Clock).move(0);
    },
  };
  // They look at devices alone; the only instance there is to take over to is the one.
  const ofClients = clientFaults.map(
    ({ name, weight = 1, inject }): EmbeddedFault => ({
      name,
      weight,
      beside: true,
      inject: ({ random, wait }) => {
        const world: Pick<World, "random" | "devices" | "instances" | "claim" | "begin" | "wait"> = {
          random,
          wait,
          devices,
          instances: [only],
          claim: async () => () => undefined,
          begin: () => undefined,
        };
        return inject(world as World);
      },
    }),
  );
  return [jump, ...ofClients];
}
