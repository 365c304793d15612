// What the network does to the way from an instance to a service: to one of them, or to all at once.
import type { Fault, Instance, Mark, World } from "./fault.ts";
import type { Gate } from "./gate.ts";

/** A service that instances reach by gates of their own. */
interface Way {
  service: "redis" | "mariadb";
  gate(instance: Instance): Gate;
  mark: Mark;
  /** Milliseconds that what is passed on comes later, from and to. */
  slowMs: [number, number];
}

const REDIS: Way = { service: "redis", gate: ({ toRedis }) => toRedis, mark: "redis-returned", slowMs: [20, 1_500] };
const MARIADB: Way = {
  service: "mariadb",
  gate: ({ toMariadb }) => toMariadb,
  mark: "database-returned",
  slowMs: [2, 100],
};

interface Break {
  name: string;
  weight?: number;
  act(gate: Gate, world: World, way: Way): void;
  /** How long it lasts, from and to; null where there is nothing to lift. */
  lastsMs: [number, number] | null;
}

const BREAKS: Break[] = [
  // Longer than every time limit, and longer than the lease.
  { name: "black hole", weight: 2, act: (gate) => gate.swallow(), lastsMs: [500, 15_000] },
  { name: "standstill", act: (gate) => gate.hold(), lastsMs: [200, 15_000] },
  { name: "unreachable", act: cutAndRefuse, lastsMs: [500, 10_000] },
  {
    name: "slow",
    act: (gate, { random }, { slowMs }) => gate.slow(random.ms(...slowMs)),
    lastsMs: [1_000, 10_000],
  },
  { name: "reset", act: (gate) => gate.cut(), lastsMs: null },
  // The connections there are never answer again; new ones are good at once.
  { name: "half-open", act: (gate) => gate.strand(), lastsMs: null },
];

function cutAndRefuse(gate: Gate): void {
  gate.refuse();
  gate.cut();
}

const faultOf = (way: Way, { name, weight, act, lastsMs }: Break, all: boolean): Fault => ({
  name: `${way.service} ${name}${all ? " everywhere" : ""}`,
  ...(weight === undefined ? {} : { weight }),
  async inject(world) {
    const { random } = world;
    const chosen = all ? [...world.instances] : [random.pick(world.instances)];
    const release = await world.claim(...chosen.map(({ index }) => `${way.service} ${index}`));
    try {
      world.begin(all ? "" : `instance ${chosen[0]!.index}`);
      for (const instance of chosen) act(way.gate(instance), world, way);
      if (lastsMs === null) return;
      await world.wait(random.ms(...lastsMs));
      for (const instance of chosen) way.gate(instance).heal();
      if (all) world.mark(way.mark);
      else world.mark(way.mark, chosen[0]!);
    } finally {
      release();
    }
  },
});

const faultsOf = (way: Way): Fault[] => BREAKS.flatMap((each) => [faultOf(way, each, false), faultOf(way, each, true)]);

export const redisNetworkFaults: Fault[] = faultsOf(REDIS);
export const mariadbNetworkFaults: Fault[] = faultsOf(MARIADB);
