// Log-ins in the midst of which messages come. In a crowd such a message is soon followed by others, from which it would be
// noticed that it is missing; here none follows, with accounts of its own: it must arrive by itself.

import { MsgId } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import { databaseOf } from "../services.ts";
import { login, register, type User, type Wire } from "../wire.ts";
import type { Fault, Instance, World } from "./fault.ts";

const SOME = 5;
const SEND_EVERY_MS = 100;
/** 5 s, on a machine that may be busy and with other faults at work. */
const ARRIVED_MS = 15_000;

interface Scene {
  reader: User;
  writer: Wire;
  wires: Wire[];
}

const whileLoggingIn = (
  name: string,
  act: (world: World, instance: Instance, scene: Scene) => Promise<Wire>,
): Fault => ({
  name,
  async inject(world) {
    const instance = world.random.pick(world.instances);
    const { index } = instance;
    // What is behind is read from the database: with that away, nothing is to be expected.
    const release = await world.claim(`instance ${index}`, `redis ${index}`, `mariadb ${index}`, "mariadb");
    const wires: Wire[] = [];
    try {
      // Where another fault stands in its way there is nothing to see.
      const scene = await prepare(instance, wires).catch(() => null);
      if (scene === null) return;
      world.begin(`instance ${index}`);
      const reader = await act(world, instance, { ...scene, wires }).catch(() => null);
      const sent = await seqsOf(scene.writer);
      if (reader === null) return;
      wires.push(reader);
      const isThere = (seq: number) => reader.received.some((each) => each.msgId === MsgId.chat && each.seq === seq);
      const missing = () => sent.filter((seq) => !isThere(seq));
      await until(() => reader.ended || missing().length === 0, "what was acknowledged has arrived", ARRIVED_MS).catch(
        () => undefined,
      );
      if (!reader.ended && missing().length > 0)
        world.find("late", `${name}: ${missing()} not pushed to who logged in meanwhile`);
    } finally {
      for (const wire of wires) wire.close();
      release();
    }
  },
});

async function prepare(instance: Instance, wires: Wire[]): Promise<Scene> {
  const reader = await register(instance.port);
  const writer = await login(instance.port, await register(instance.port));
  wires.push(writer);
  // The conversation is there; and somebody has been told of it, so that a new device begins behind it.
  const first = await login(instance.port, reader, { device: "first", confirm: true });
  wires.push(first);
  await writer.ask({ msgId: MsgId.chat, toid: reader.id, msg: "opening" });
  const { conv, seq } = await first.push(MsgId.chat);
  await first.ask({ msgId: MsgId.confirm, conv, seq });
  await first.ask({ msgId: MsgId.logout });
  return { reader, writer, wires };
}

function send({ reader, writer }: Scene, number: number): void {
  writer.send({ msgId: MsgId.chat, toid: reader.id, msg: `${number}`, reqId: `sent ${number}` });
}

/** Of what `send` has sent and was acknowledged: all is answered before what is asked for later. */
async function seqsOf(writer: Wire): Promise<number[]> {
  await writer.settle().catch(() => undefined);
  return writer.received
    .filter(({ reqId, errno }) => String(reqId).startsWith("sent ") && errno === 0)
    .map(({ seq }) => seq as number);
}

/** The log-in is entered at Redis, which does not answer: it takes a second. */
const whileRedisIsSilent = whileLoggingIn("log-in while redis is silent", async (_world, instance, scene) => {
  instance.toRedis.swallow();
  let number = 0;
  // None comes after the log-in: it would show that others are missing.
  const writing = setInterval(() => number < SOME && send(scene, number++), SEND_EVERY_MS);
  try {
    return await login(instance.port, scene.reader, { device: "moves", confirm: true });
  } finally {
    clearInterval(writing);
    instance.toRedis.heal();
  }
});

/** The messages are there before the log-in, and are committed after it. */
const whileCommitsWait = whileLoggingIn(
  "log-in while commits wait",
  async ({ mariadb, databaseUrl }, instance, scene) => {
    const session = await mariadb.session(databaseOf(databaseUrl));
    try {
      await session.run("START TRANSACTION");
      await session.run("SELECT id FROM conversation FOR UPDATE");
      for (let number = 0; number < SOME; number++) send(scene, number);
      const reader = await login(instance.port, scene.reader, { device: "moves", confirm: true });
      await session.run("ROLLBACK");
      return reader;
    } finally {
      session.close();
    }
  },
);

export const moveFaults: Fault[] = [whileRedisIsSilent, whileCommitsWait];
