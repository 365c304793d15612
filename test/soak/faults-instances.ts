// What happens to the servers themselves.
import type { Device, Fault, Instance, World } from "./fault.ts";
import { fenceFaults } from "./faults-fence.ts";

/** A server that is down comes back after it. */
const DOWN_MS = [300, 8_000] as const;

const namesOf = (instances: Instance[]): string[] => instances.map(({ index }) => `instance ${index}`);

/** Those that may be ended. */
const mortals = ({ instances, spared }: World): Instance[] => instances.filter((each) => each !== spared);

async function end(world: World, instances: Instance[], signal: "SIGKILL" | "SIGTERM"): Promise<void> {
  const release = await world.claim(...namesOf(instances));
  try {
    world.begin(`${signal} ${namesOf(instances).join(", ")}`);
    for (const instance of instances) world.mark("instance-died", instance);
    await Promise.all(
      instances.map(async (instance) => {
        if (signal === "SIGTERM") await drainInOrder(world, instance);
        else await instance.kill(signal);
        await world.wait(world.random.ms(...DOWN_MS));
        await instance.start();
      }),
    );
  } finally {
    release();
  }
}

/** A reset would destroy acknowledgements that are on their way: all connections end by FIN, where they can. */
async function drainInOrder({ devices, find }: World, instance: Instance): Promise<void> {
  const resetsOf = ({ gate }: Device) => gate.resets.get(instance.port) ?? 0;
  const { running } = instance;
  const before = devices
    .filter((device) => device.instance === instance && device.gate.isPassing)
    .map((device) => ({ device, resets: resetsOf(device), troubles: device.gate.troubles }));
  await instance.kill("SIGTERM");
  // It cuts off what it cannot answer.
  if (running?.log().includes("not drained in time") !== false) return;
  for (const { device, resets, troubles } of before)
    if (resetsOf(device) > resets && device.gate.troubles === troubles)
      find("died", `instance ${instance.index} reset the connection of ${device.name} on SIGTERM`);
}

const kill: Fault = {
  name: "kill -9",
  weight: 2,
  inject: (world) => end(world, [world.random.pick(mortals(world))], "SIGKILL"),
};

const killTwo: Fault = {
  name: "kill -9 of two at once",
  inject: (world) => end(world, world.random.sample(mortals(world), 2), "SIGKILL"),
};

const drain: Fault = {
  name: "SIGTERM",
  weight: 2,
  inject: (world) => end(world, [world.random.pick(mortals(world))], "SIGTERM"),
};

/** SIGTERM while it is stopped: it drains when it goes on, perhaps as one that has lost its lease. */
const drainPaused: Fault = {
  name: "SIGTERM when paused",
  async inject(world) {
    const instance = world.random.pick(mortals(world));
    const release = await world.claim(...namesOf([instance]));
    try {
      world.begin(namesOf([instance]).join());
      instance.pause();
      await world.wait(world.random.ms(500, 10_000));
      await instance.kill("SIGTERM");
      await world.wait(world.random.ms(...DOWN_MS));
      await instance.start();
    } finally {
      release();
    }
  },
};

async function pause(world: World, instances: Instance[], min: number, max: number): Promise<void> {
  const release = await world.claim(...namesOf(instances));
  try {
    const ms = world.random.ms(min, max);
    world.begin(`${ms} ms, ${namesOf(instances).join(", ")}`);
    for (const instance of instances) instance.pause();
    await world.wait(ms);
    for (const instance of instances) instance.resume();
  } finally {
    release();
  }
}

/** Its lease is 6 s: shorter, and it goes on as if nothing had been; longer, and it must know that it has lost it. */
const pauseShort: Fault = {
  name: "SIGSTOP within the lease",
  inject: (world) => pause(world, [world.random.pick(world.instances)], 500, 4_000),
};

const pauseLong: Fault = {
  name: "SIGSTOP beyond the lease",
  inject: (world) => pause(world, [world.random.pick(world.instances)], 6_500, 20_000),
};

const pauseTwo: Fault = {
  name: "SIGSTOP of two at once",
  weight: 0.5,
  inject: (world) => pause(world, world.random.sample(world.instances, 2), 500, 20_000),
};

export const instanceFaults: Fault[] = [
  kill,
  killTwo,
  drain,
  drainPaused,
  pauseShort,
  pauseLong,
  pauseTwo,
  ...fenceFaults,
];
