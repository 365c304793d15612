// Far more messages than the store can take (somebody else holds its lock most of the time), of clients that wait for no answer:
// what is refused is told 16 or 19, what is acknowledged is stored and delivered once, and afterwards all is as before.
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Errno, type Message, MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User, type Wire } from "../wire.ts";

const PAIRS = 10;
/** Messages of one sender in one go. */
const BURST = 20;
const HELD_MS = 1_200;

class Flood {
  private sent = 0;
  readonly answers = new Map<string, number>();
  readonly refusals: Message[] = [];
  readonly arrived: string[] = [];

  constructor(
    private readonly sender: Wire,
    private readonly receiver: Wire,
    private readonly to: User,
  ) {}

  send(): void {
    const messages = Array.from({ length: BURST }, () => {
      const mid = `m${this.sent++}`;
      return { msgId: MsgId.chat, toid: this.to.id, msg: mid, mid };
    });
    this.sender.send(...messages);
  }

  /** Takes what has come. */
  take(): void {
    for (const answer of this.sender.rest()) {
      this.answers.set(answer.mid as string, answer.errno as number);
      if (answer.errno !== 0) this.refusals.push(answer);
    }
    for (const { mid } of this.receiver.rest()) this.arrived.push(mid as string);
    this.sender.bytes = [];
    this.receiver.bytes = [];
  }

  get isAnswered(): boolean {
    this.take();
    return this.answers.size === this.sent;
  }

  /** In the order in which they were sent. */
  get acked(): string[] {
    return [...this.answers].filter(([, errno]) => errno === Errno.ok).map(([mid]) => mid);
  }
}

/** Takes the database's lock, lets it go for a moment, and so on; until the function that it returns is called. */
function occupy(file: string): () => void {
  const lock = new Database(file);
  lock.run("PRAGMA busy_timeout = 50");
  let isHeld = false;
  const step = () => {
    try {
      lock.run(isHeld ? "ROLLBACK" : "BEGIN IMMEDIATE");
      isHeld = !isHeld;
    } catch {
      // The server has it.
    }
    timer = setTimeout(step, isHeld ? HELD_MS : 20);
  };
  let timer = setTimeout(step, 0);
  return () => {
    clearTimeout(timer);
    lock.close();
  };
}

test("an overloaded server refuses what is too much, loses nothing of the rest, and recovers", async () => {
  const file = join(temporaryFolder(), "chat.db");
  const server = await startServer(file, CHEAP_PASSWORDS);
  const users = await Promise.all(Array.from({ length: 2 * PAIRS }, () => register(server.port)));
  const wires = await Promise.all(users.map((user) => login(server.port, user)));
  const floods = users.slice(PAIRS).map((to, i) => new Flood(wires[i]!, wires[PAIRS + i]!, to));

  const release = occupy(file);
  await until(
    () => {
      for (const flood of floods) {
        flood.take();
        flood.send();
      }
      return floods.some(({ refusals }) => refusals.some(({ errno }) => errno === Errno.rateLimited));
    },
    "messages are refused",
    25_000,
  );
  release();
  await until(() => floods.every((flood) => flood.isAnswered), "everything is answered", 15_000);
  const refusals = floods.flatMap((flood) => flood.refusals);
  const errnos = [...new Set(refusals.map(({ errno }) => errno as number))];
  expect(errnos).toContain(Errno.rateLimited);
  expect(errnos.filter((errno) => errno !== Errno.rateLimited && errno !== Errno.unavailable)).toEqual([]);
  const isComplete = ({ errno, retryAfterMs, mid }: Message) =>
    typeof mid === "string" && (errno === Errno.unavailable || (retryAfterMs as number) > 0);
  expect(refusals.filter((answer) => !isComplete(answer))).toEqual([]);
  // Not all at once.
  expect(new Set(refusals.map(({ retryAfterMs }) => retryAfterMs)).size).toBeGreaterThan(2);
  // What was told 19 may be stored all the same, at its place.
  const due = (flood: Flood) => {
    flood.take();
    const known = new Set(flood.acked);
    return flood.arrived.filter((mid) => known.has(mid) || flood.answers.get(mid) !== Errno.unavailable);
  };
  await until(() => floods.every((flood) => due(flood).length >= flood.acked.length), "everything arrives", 15_000);
  for (const flood of floods) {
    expect(due(flood)).toEqual(flood.acked);
    expect(new Set(flood.arrived).size).toBe(flood.arrived.length);
    expect(flood.acked.length).toBeGreaterThan(0);
  }
  // Nobody was cut off, and everybody is served at once.
  const startedAt = performance.now();
  const answers = await Promise.all(
    wires.slice(0, PAIRS).map((wire, i) => wire.ask({ msgId: MsgId.chat, toid: users[PAIRS + i]!.id, msg: "after" })),
  );
  expect(answers.map(({ errno }) => errno)).toEqual(answers.map(() => Errno.ok));
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  expect(wires.map(({ ended }) => ended)).toEqual(wires.map(() => false));
  await server.stop();
}, 90_000);
