// An instance that others have taken over while it was stopped: when it goes on, the sessions that it held are other
// instances', and it must not act for them, not even at once. Programs on the SDK leave by then, so it needs some that
// wait, with accounts of their own.
import { MsgId } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";
import type { Fault, Instance, World } from "./fault.ts";

/** A lease lasts 6 s. What is told to a stopped instance reaches it until its users count as gone, 2 s later. */
const LEASE_MS = 6_000;
const STOPPED_MS = [6_100, 7_500] as const;
const SEND_EVERY_MS = 100;
/** For the log-in elsewhere, and for the end of the old session, with other faults at work. */
const PATIENCE_MS = 60_000;

interface Scene {
  reader: User;
  /** The reader's session on the instance that is stopped. */
  old: Wire;
  writer: Wire;
  stopped: Instance;
  other: Instance;
  wires: Wire[];
}

const takenOver: Fault = {
  name: "SIGSTOP until taken over",
  async inject(world) {
    const stopped = world.random.pick(world.instances.filter((each) => each !== world.spared));
    const other = world.random.pick(world.instances.filter((each) => each !== stopped));
    const release = await world.claim(`instance ${stopped.index}`, `instance ${other.index}`);
    const wires: Wire[] = [];
    try {
      // Where another fault stands in its way there is nothing to see.
      const scene = await prepare(stopped, other, wires).catch(() => null);
      if (scene !== null) await takeOver(world, scene);
    } finally {
      for (const wire of wires) wire.close();
      release();
    }
  },
};

async function prepare(stopped: Instance, other: Instance, wires: Wire[]): Promise<Scene> {
  const reader = await register(other.port);
  const old = await login(stopped.port, reader, { device: "stays" });
  wires.push(old);
  const writer = await login(other.port, await register(other.port));
  wires.push(writer);
  // Its position in the conversation is known from now on: what is heard is pushed without a look at the store.
  await writer.ask({ msgId: MsgId.chat, toid: reader.id, msg: "opening" });
  await old.push(MsgId.chat);
  return { reader, old, writer, stopped, other, wires };
}

async function takeOver(world: World, { reader, old, writer, stopped, other, wires }: Scene): Promise<void> {
  world.begin(`instance ${stopped.index}`);
  const stoppedAt = performance.now();
  stopped.pause();
  const message = { msgId: MsgId.chat, toid: reader.id, msg: "while it is stopped" };
  const writing = setInterval(() => writer.send(message), SEND_EVERY_MS);
  const { id, password } = reader;
  const isIn = async () => {
    const wire = await Wire.connect(other.port);
    wires.push(wire);
    const { errno } = await wire.ask({ msgId: MsgId.login, id, password, device: "stays", takeover: true });
    return errno === 0;
  };
  const isOther = await world
    .wait(world.random.ms(...STOPPED_MS))
    .then(() => until(isIn, "the device is logged in elsewhere", PATIENCE_MS))
    .then(() => true)
    .catch(() => false);
  clearInterval(writing);
  old.rest();
  const ms = performance.now() - stoppedAt;
  stopped.resume();
  if (!isOther || ms < LEASE_MS) return;
  await until(() => old.ended, "the session that was taken over has ended", PATIENCE_MS);
  const pushed = old.rest().filter(({ msgId }) => msgId === MsgId.chat).length;
  if (pushed > 0)
    world.find("doubled", `${pushed} messages pushed to a session of another instance's, after ${Math.round(ms)} ms`);
}

/** Instances look for what they have not heard every second or two: at different moments of that. */
const TURNS = 8;
const TURN_MS = 250;
/** For the position in the opening's conversation to be saved: until then the next owner reads on from before it. */
const SAVED_MS = 1_500;
/** The owner before has found out by then. */
const UNHEARD_MS = 2_500;
const ARRIVED_MS = 10_000;

/**
 * A device is taken over from an instance that cannot hear of it. What is written there meanwhile is pushed to the old
 * session, and is the new one's all the same.
 */
const unheard: Fault = {
  name: "taken over unheard",
  async inject(world) {
    const deaf = world.random.pick(world.instances);
    const other = world.random.pick(world.instances.filter((each) => each !== deaf));
    const held = [deaf, other].flatMap(({ index }) => [`instance ${index}`, `redis ${index}`, `mariadb ${index}`]);
    const release = await world.claim("mariadb", ...held);
    const wires: Wire[] = [];
    try {
      const all = Array.from({ length: TURNS }, () => prepare(deaf, deaf, wires));
      const scenes = await Promise.all(all).catch(() => []);
      if (scenes.length === 0) return;
      await world.wait(SAVED_MS);
      world.begin(`instance ${deaf.index}`);
      deaf.toRedis.swallow();
      const inTurn = scenes.map(async (scene, turn) => {
        await Bun.sleep(turn * TURN_MS);
        await takeOverUnheard(world, scene, other);
      });
      await Promise.all(inTurn);
    } finally {
      deaf.toRedis.heal();
      for (const wire of wires) wire.close();
      release();
    }
  },
};

async function takeOverUnheard(world: World, { reader, writer, wires }: Scene, other: Instance): Promise<void> {
  const now = await login(other.port, reader, { device: "stays", takeover: true }).catch(() => null);
  if (now === null) return;
  wires.push(now);
  const acked: number[] = [];
  const send = () =>
    writer
      .ask({ msgId: MsgId.chat, toid: reader.id, msg: "while it is deaf" })
      .then(({ errno, seq }) => void (errno === 0 && acked.push(seq as number)))
      .catch(() => undefined);
  const end = performance.now() + UNHEARD_MS;
  while (performance.now() < end) {
    await send();
    await Bun.sleep(SEND_EVERY_MS);
  }
  const missing = () =>
    acked.filter((seq) => !now.received.some((each) => each.seq === seq && each.msgId === MsgId.chat));
  await until(() => now.ended || missing().length === 0, "all arrives", ARRIVED_MS).catch(() => undefined);
  if (!now.ended && missing().length > 0)
    world.find("lost", `${missing()} of ${acked} not pushed to who has taken over from an instance that is deaf`);
}

export const fenceFaults: Fault[] = [takenOver, unheard];
