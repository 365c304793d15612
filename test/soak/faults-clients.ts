// What happens to clients and to the network between them and the servers.
import type { Device, Fault, World } from "./fault.ts";

const nameOf = (world: World, device: Device): string => `device ${world.devices.indexOf(device)}`;

/** Acts on a part of all devices, each of them held meanwhile. */
async function withSome(world: World, share: number, act: (devices: Device[]) => Promise<void>): Promise<void> {
  const count = Math.max(1, Math.round(world.devices.length * share));
  const devices = world.random.sample(world.devices, count);
  const release = await world.claim(...devices.map((device) => nameOf(world, device)));
  try {
    world.begin(`${count} devices`);
    await act(devices);
  } finally {
    release();
  }
}

const reset: Fault = {
  name: "clients reset",
  inject: (world) =>
    withSome(world, 0.2, async (devices) => {
      for (const { gate } of devices) {
        gate.cut();
        await world.wait(world.random.ms(1, 50));
      }
    }),
};

/** The server hears nothing of their end, and they come back beside their own old connection. */
const halfOpen: Fault = {
  name: "clients half-open",
  inject: (world) =>
    withSome(world, 0.2, async (devices) => {
      for (const { gate } of devices) gate.strand();
      await world.wait(world.random.ms(500, 8_000));
    }),
};

/** Nothing gets through to any instance for a while, and nobody is told. */
const blackHole: Fault = {
  name: "clients in a black hole",
  inject: (world) =>
    withSome(world, 0.15, async (devices) => {
      for (const { gate } of devices) gate.swallow();
      await world.wait(world.random.ms(500, 8_000));
      for (const { gate } of devices) gate.heal();
    }),
};

const stopReading: Fault = {
  name: "clients stop reading",
  inject: (world) =>
    withSome(world, 0.15, async (devices) => {
      for (const { gate } of devices) gate.stopReading();
      await world.wait(world.random.ms(500, 10_000));
      for (const { gate } of devices) gate.heal();
    }),
};

const slow: Fault = {
  name: "clients on a slow network",
  inject: (world) =>
    withSome(world, 0.2, async (devices) => {
      for (const { gate } of devices) gate.slow(world.random.ms(50, 1_000));
      await world.wait(world.random.ms(1_000, 10_000));
      for (const { gate } of devices) gate.heal();
    }),
};

const storm: Fault = {
  name: "reconnect storm of all",
  async inject(world) {
    const release = await world.claim("clients");
    try {
      world.begin();
      for (let more = world.random.int(1, 3); more > 0; more--) {
        for (const { gate } of world.devices) gate.cut();
        await world.wait(world.random.ms(50, 3_000));
      }
    } finally {
      release();
    }
  },
};

/** The same user and device by two programs, on the instances in turn: the last one goes on. */
const takeOver: Fault = {
  name: "taken over on instances in turn",
  inject: (world) =>
    withSome(world, 0.05, async (devices) => {
      await Promise.all(
        devices.map(async (device) => {
          const first = world.random.int(0, world.instances.length - 1);
          for (let more = world.random.int(1, 4); more > 0; more--) {
            await device.takeOver(world.instances[(first + more) % world.instances.length]!);
            await world.wait(world.random.ms(5, 1_000));
          }
        }),
      );
    }),
};

export const clientFaults: Fault[] = [reset, halfOpen, blackHole, stopReading, slow, storm, takeOver];
