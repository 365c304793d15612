// SIGTERM and SIGINT: what was taken is stored and answered, everybody is told, and the server ends in its time.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Errno, MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, CHEAP_PASSWORDS, runProgram, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, Wire } from "../wire.ts";
import { readLog } from "./crowd.ts";
import { longestQueue } from "./kernel.ts";

/** Generous, on a machine that does other things too; far below the default of 10 s. */
const PROMPT_MS = 5_000;
const newFile = () => join(temporaryFolder(), "chat.db");

/** Sends to one user for ever, with a fixed number of messages unanswered, until the server ends the connection. */
class Flood {
  /** seq by mid. */
  readonly acked = new Map<string, number>();
  sent = 0;
  /** The errno of the notice, where that was the last thing to come. */
  lastNotice: unknown = null;
  readonly end: Promise<void>;

  constructor(wire: Wire, to: User, msg = "x".repeat(200)) {
    this.end = this.run(wire, to, msg);
  }

  private async run(wire: Wire, to: User, msg: string): Promise<void> {
    for (let ended = false; !ended; await Bun.sleep(1)) {
      ended = wire.ended;
      for (const { msgId, errno, mid, seq } of wire.rest()) {
        if (msgId === MsgId.answer && errno === 0) this.acked.set(mid as string, seq as number);
        this.lastNotice = msgId === MsgId.notice ? errno : null;
      }
      while (this.sent - this.acked.size < 64)
        wire.send({ msgId: MsgId.chat, toid: to.id, mid: `${to.id}:${this.sent++}`, msg });
    }
  }
}

/** A server with a client that never reads, and more waiting for it in the server than the kernels take. */
async function withStuckClient(data: string, drainSeconds: number, waiting = 200, ...flags: string[]) {
  const server = await startServer(data, [...CHEAP_PASSWORDS, "--drain-timeout", String(drainSeconds), ...flags]);
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const sender = await login(server.port, ann);
  const receiver = await login(server.port, bob);
  receiver.pause();
  const flood = new Flood(sender, bob, "x".repeat(60_000));
  let [queue, since] = [0, 0];
  await until(
    () => {
      const now = longestQueue(server.port);
      if (now !== queue) [queue, since] = [now, flood.acked.size];
      return queue > 0 && flood.acked.size - since > waiting;
    },
    "the kernels take no more",
    30_000,
  );
  return { server, flood, receiver, bob };
}

for (const signal of ["SIGTERM", "SIGINT"] as const)
  test(`${signal} in mid-flight: acknowledged is what is stored, and the end is in good order`, async () => {
    const data = newFile();
    const server = await startServer(data);
    const users = await Promise.all(Array.from({ length: 8 }, () => register(server.port)));
    const wires = await Promise.all(users.map((user) => login(server.port, user)));
    const floods = wires.slice(0, 4).map((wire, i) => new Flood(wire, users[i + 4]!));
    const received = wires.slice(4);
    await until(() => received.every((wire) => wire.received.length > 200), "the flood");

    const ended = server.stop(signal);
    await Promise.all(floods.map(({ end }) => end));
    await Promise.all(received.map((wire) => wire.whenEnded()));
    // By FIN, not by a reset: these sockets could still be written to.
    expect(wires.map(({ closed }) => closed)).toEqual(Array(8).fill(false));
    for (const wire of wires) wire.halfClose();
    expect(await ended).toBe(0);
    expect(server.log()).toContain(`${signal}: draining 8 connections\n`);
    expect(server.log()).toEndWith("stopped\n");

    const stored = readLog(data);
    expect(floods.map(({ lastNotice }) => lastNotice)).toEqual(Array(4).fill(Errno.shuttingDown));
    // What was not acknowledged was not taken.
    const acked = floods.flatMap((flood) => [...flood.acked]).sort();
    expect(stored.map(({ mid, seq }) => [mid, seq]).sort()).toEqual(acked);
    expect(acked.length).toBeLessThan(floods.reduce((sum, { sent }) => sum + sent, 0));
    for (const wire of received) expect(wire.received.at(-1)).toMatchObject({ msgId: MsgId.notice, errno: 20 });
  });

test("what was delivered before the drain is not delivered again, and the rest is", async () => {
  const data = newFile();
  const server = await startServer(data);
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const sender = await login(server.port, ann);
  const receiver = await login(server.port, bob);
  const flood = new Flood(sender, bob);
  await until(() => receiver.received.length > 500, "the flood");
  const ended = server.stop();
  await receiver.whenEnded();
  const before = receiver.rest().filter(({ msgId }) => msgId === MsgId.chat);
  await flood.end;
  for (const wire of [sender, receiver]) wire.halfClose();
  await ended;

  const next = await startServer(data);
  const again = await login(next.port, bob);
  const total = Math.max(...flood.acked.values());
  await until(() => before.length + again.received.length >= total, "the rest");
  await again.settle();
  const seqs = [...before, ...again.rest()].map(({ seq }) => seq);
  expect(seqs).toEqual(Array.from({ length: total }, (_, i) => i + 1));
  await next.stop();
});

test("a request under way is answered, what follows it is not taken, and clients that never close are not waited for", async () => {
  // A slow hash: the registration is under way when the signal comes.
  const server = await startServer(newFile(), ["--password-memory", "64", "--password-time", "4"]);
  const wire = await Wire.connect(server.port);
  wire.send({ msgId: MsgId.register, name: "ann", password: "secret1" });
  // Answered at once, so the registration has been taken.
  const other = await Wire.connect(server.port);
  await other.settle();
  const ended = server.stop();
  await until(() => server.log().includes("draining"), "the drain");
  wire.send({ msgId: MsgId.register, name: "bob", password: "secret1" });
  await wire.whenEnded();
  expect(wire.rest().map(({ msgId, errno }) => [msgId, errno])).toEqual([
    [MsgId.registered, 0],
    [MsgId.notice, Errno.shuttingDown],
  ]);
  expect(await ended).toBe(0);
});

test("a client that never reads does not hold up the others, nor the end beyond --drain-timeout", async () => {
  const data = newFile();
  const { server, flood } = await withStuckClient(data, 3);
  const startedAt = performance.now();
  let over = false;
  const ended = server.stop().finally(() => {
    over = true;
  });
  await flood.end;
  expect(flood.lastNotice).toBe(Errno.shuttingDown);
  expect(over).toBe(false);
  expect(await ended).toBe(0);
  expect(performance.now() - startedAt).toBeLessThan(3_000 + 2_000);
  expect(server.log()).toContain("not drained in time: closing 1 connections");
  expect(readLog(data).length).toBe(flood.acked.size);
});

test("what a slow reader takes during the drain is not delivered again, also where it is not through at the end", async () => {
  const data = newFile();
  const { server, flood, receiver, bob } = await withStuckClient(data, 4, 1_000, "--high-water", "100m");
  const ended = server.stop();
  await until(() => server.log().includes("draining"), "the drain");
  await flood.end;
  // The kernels take about as much more.
  receiver.resume();
  await until(() => receiver.received.length >= 10, "some of it");
  receiver.pause();
  await ended;
  receiver.resume();
  await receiver.whenEnded();
  const before = receiver.rest().filter(({ msgId }) => msgId === MsgId.chat);
  const total = Math.max(...flood.acked.values());
  expect(before.length).toBeLessThan(total);

  const next = await startServer(data);
  const again = await login(next.port, bob);
  await until(() => before.length + again.received.length >= total, "the rest");
  await again.settle();
  const seqs = [...before, ...again.rest()].map(({ seq }) => seq);
  expect(seqs).toEqual(Array.from({ length: total }, (_, i) => i + 1));
  await next.stop();
}, 60_000);

test("without connections it ends at once, and with idle ones as soon as they have closed", async () => {
  const data = newFile();
  const server = await startServer(data, CHEAP_PASSWORDS, 0, { prefix: ["env", "--default-signal=HUP"] });
  let startedAt = performance.now();
  expect(await server.stop("SIGHUP")).toBe(0);
  expect(performance.now() - startedAt).toBeLessThan(PROMPT_MS);

  const next = await startServer(data, CHEAP_PASSWORDS, server.port);
  const wires = await Promise.all(Array.from({ length: 50 }, () => Wire.connect(next.port, "lf")));
  await Promise.all(wires.map((wire) => wire.settle()));
  startedAt = performance.now();
  const ended = next.stop();
  await Promise.all(wires.map((wire) => wire.whenEnded()));
  expect(wires.every((wire) => wire.received.at(-1)?.errno === Errno.shuttingDown)).toBe(true);
  for (const wire of wires) wire.halfClose();
  expect(await ended).toBe(0);
  expect(performance.now() - startedAt).toBeLessThan(PROMPT_MS);
});

test("a second SIGINT ends at once", async () => {
  const { server, flood } = await withStuckClient(newFile(), 60);
  let over = false;
  const ended = server.stop("SIGINT").finally(() => {
    over = true;
  });
  await flood.end;
  // Those of the first moment count as one: a terminal's Ctrl-C may come twice.
  await until(() => {
    if (!over) process.kill(server.pid, "SIGINT");
    return over;
  }, "the end");
  expect(await ended).toBe(1);
});

test("SIGTERM during the start ends it, and the next start finds a good database", async () => {
  const data = newFile();
  const command = [CHAT_SERVER, "0", "--host", "127.0.0.1", "--data", data];
  const codes = new Set<number | null>();
  for (let delay = 0; delay < 0.12; delay += 0.008) {
    const script = `"$@" & sleep ${delay}; kill $!; wait $!`;
    const { code, errors } = await runProgram(["sh", "-c", script, "sh", ...command]);
    // The shell may say "Terminated" there.
    expect(errors).not.toContain("ChatServer");
    codes.add(code);
  }
  // 143: the signal came before the program could notice it.
  for (const code of codes) expect([0, 143]).toContain(code!);
  const server = await startServer(data);
  await register(server.port);
  expect(await server.stop()).toBe(0);
});
