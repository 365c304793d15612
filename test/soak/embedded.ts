// The soak of the embedded store: one server under load, and everything that can happen to its process, its files, its
// clock and its clients, at random times. Everything is counted.
import { until } from "../harness.ts";
import type { EmbeddedFault } from "./embedded-faults.ts";
import type { Waits } from "./embedded-recovery.ts";
import type { EmbeddedServer } from "./embedded-server.ts";
import { type Setup, setUp } from "./embedded-setup.ts";
import { checkStore, type StoreCheck } from "./embedded-store.ts";
import type { Ledger } from "./ledger.ts";
import type { Random } from "./random.ts";
import { descriptorsOf, memoryOf } from "./resources.ts";

export interface EmbeddedOptions {
  seed: number;
  /** It goes on until every fault was injected once, and a server was killed so often. */
  kills: number;
  /** No fault lasts longer. */
  longestMs: number;
  /** Then one server stays under load for so long; two minutes and more show whether its memory grows. */
  settleMs: number;
  /** Messages a second. */
  rate: number;
  /** Names of faults, part of them is enough; none: all. */
  only: string[];
  say(line: string): void;
}

/** What was counted. */
export interface EmbeddedOutcome {
  ledger: Ledger;
  server: EmbeddedServer;
  waits: Waits;
  injected: Setup["injected"];
  checks: StoreCheck[];
  /** What is not as it should be beside the ledger's findings. */
  unhealthy: string[];
  /** Of the last server: after its first minute of load (or half of its time), and at the end of it. */
  memoryMiB: [first: number, last: number];
  descriptors: [first: number, last: number];
  seconds: number;
}

/** Within it the first acknowledgement comes after everything, and all of them in the end. */
const PATIENCE_MS = 60_000;
const CHECK_EVERY_KILLS = 25;
const MEMORY_AFTER_MS = 60_000;
const MEMORY_GROWTH = 1.2;
/** Beside those of its connections, a server may open a file or two for good, and its thread for checkpoints has four. */
const DESCRIPTORS_MORE = 6;
/** Of a store that can write nothing, in a second: its end and its start may tell one each. */
const MOST_COMPLAINTS = 2;

export async function runEmbedded(options: EmbeddedOptions): Promise<EmbeddedOutcome> {
  const begunAt = performance.now();
  const setup = await setUp(options);
  const { world, crowd, ledger, possible, injected, unhealthy } = setup;
  const { server, waits, fault } = world;
  const checks: StoreCheck[] = [];
  crowd.write();
  const calm = new AbortController();
  const beside = injectBeside(setup, calm.signal);
  const untried = world.random.shuffle(possible.filter((each) => !each.beside));
  for (let checkAt = CHECK_EVERY_KILLS; untried.length > 0 || server.kills < options.kills; ) {
    await injectOne(setup, untried.pop());
    if (server.kills < checkAt) continue;
    checkAt += CHECK_EVERY_KILLS;
    await server.end("SIGKILL");
    checks.push(await check(setup, options.say));
    await server.start();
  }
  const memoryMiB = await settle(server, options.settleMs);
  calm.abort();
  await beside;
  // One that has ended by itself is counted.
  if (server.running === null) await server.start();

  for (const { gate } of crowd.devices) gate.heal();
  await crowd.rest(PATIENCE_MS);
  await crowd.close();
  const { pid } = server.running!;
  const closed = () => descriptorsOf(pid) <= server.descriptors + DESCRIPTORS_MORE;
  await until(closed, "the server has closed its files").catch((error: Error) => fault(error.message));
  const descriptors: [number, number] = [server.descriptors, descriptorsOf(pid)];
  const code = await server.end("SIGTERM");
  if (code !== 0) fault(`SIGTERM ended it with ${code}`);
  checks.push(await check(setup, options.say));
  setup.stop();
  // A process that is younger is still warming up.
  if (options.settleMs >= 2 * MEMORY_AFTER_MS && memoryMiB[1] > memoryMiB[0] * MEMORY_GROWTH)
    fault(`memory grew from ${memoryMiB[0]} to ${memoryMiB[1]} MiB`);
  if (server.complaints > MOST_COMPLAINTS) fault(`${server.complaints} lines were logged of the store in one second`);
  const seconds = (performance.now() - begunAt) / 1_000;
  return { ledger, server, waits, injected, checks, unhealthy, memoryMiB, descriptors, seconds };
}

/** A fault of those that come one after the other: this one, or any; then the users get on. */
async function injectOne({ world, possible, injected }: Setup, untried: EmbeddedFault | undefined): Promise<void> {
  const { random, server, waits } = world;
  const inTurn = possible.filter(({ beside }) => !beside);
  await world.wait(random.ms(200, 4_000));
  const fault = untried ?? choose(inTurn, random);
  count(injected, fault);
  try {
    await fault.inject(world);
    await waits.whenAcked(PATIENCE_MS);
  } catch (error) {
    world.fault(`${fault.name}: ${(error as Error).message}`);
    if (server.running === null) await server.start();
  }
}

/** What does not end the server, beside everything else, until `signal`. */
async function injectBeside({ world, possible, injected }: Setup, signal: AbortSignal): Promise<void> {
  const own = { ...world, random: world.random.fork() };
  const faults = possible.filter(({ beside }) => beside);
  const untried = own.random.shuffle(faults);
  while (faults.length > 0 && !signal.aborted) {
    await own.wait(own.random.ms(200, 3_000));
    const fault = untried.pop() ?? choose(faults, own.random);
    count(injected, fault);
    await fault.inject(own).catch((error: Error) => world.fault(`${fault.name}: ${error.message}`));
  }
}

function choose(faults: EmbeddedFault[], random: Random): EmbeddedFault {
  let at = random.next() * faults.reduce((sum, { weight }) => sum + weight, 0);
  for (const fault of faults) {
    at -= fault.weight;
    if (at < 0) return fault;
  }
  return faults.at(-1)!;
}

const count = (injected: Setup["injected"], { name }: EmbeddedFault) =>
  injected.set(name, (injected.get(name) as number) + 1);

/** Reads the store of a server that does not run. */
async function check({ world, crowd, ledger }: Setup, say: EmbeddedOptions["say"]): Promise<StoreCheck> {
  const { server } = world;
  const checked = await checkStore(server.place, ledger);
  crowd.check();
  if (checked.verdict !== "ok") world.fault(`PRAGMA integrity_check: ${checked.verdict}`);
  const { rows, journalled } = checked;
  const store = `${rows} in the store, ${journalled} of them in the journal`;
  say(`${server.kills} kills, ${ledger.acked} acknowledged, ${store}, ${ledger.findings.total} bad`);
  return checked;
}

/** The server under load, undisturbed in its process; what it holds of memory early and late, MiB. */
async function settle(server: EmbeddedServer, ms: number): Promise<[number, number]> {
  const early = Math.min(MEMORY_AFTER_MS, ms / 2);
  await Bun.sleep(early);
  const first = Math.round(memoryOf(server.running?.pid ?? 0));
  await Bun.sleep(ms - early);
  return [first, Math.round(memoryOf(server.running?.pid ?? 0))];
}
