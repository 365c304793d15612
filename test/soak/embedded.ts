// The soak of the embedded store: one server under load, and everything that can happen to its process, its files, its
// clock and its clients, at random times. Everything is counted.
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { CHAT_SERVER, temporaryFolder, until } from "../harness.ts";
import { login, register } from "../wire.ts";
import { Crowd } from "./crowd.ts";
import { EMBEDDED_FAULTS, type EmbeddedFault, type EmbeddedWorld } from "./embedded-faults.ts";
import { makeDisk, makeSmallDisk } from "./embedded-place.ts";
import { Waits } from "./embedded-recovery.ts";
import { EmbeddedServer } from "./embedded-server.ts";
import { aside } from "./embedded-side.ts";
import { checkStore, type StoreCheck } from "./embedded-store.ts";
import { makeClock } from "./faketime.ts";
import type { Instance } from "./fault.ts";
import { stablePort } from "./instance.ts";
import { Findings, Ledger } from "./ledger.ts";
import { Random } from "./random.ts";
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
  findings: Findings;
  ledger: Ledger;
  server: EmbeddedServer;
  waits: Waits;
  /** How often each fault was injected; or why it was not possible. */
  injected: Map<string, number | string>;
  checks: StoreCheck[];
  /** What is not as it should be beside the findings. */
  unhealthy: string[];
  /** Of the last server: after its first minute of load (or half of its time), and at the end of it. */
  memoryMiB: [first: number, last: number];
  descriptors: [first: number, last: number];
  seconds: number;
}

const USERS = 16;
/** Within it the first acknowledgement comes after everything, and all of them in the end. */
const PATIENCE_MS = 60_000;
const CHECK_EVERY_KILLS = 25;
const MEMORY_AFTER_MS = 60_000;
const MEMORY_GROWTH = 1.2;
/** Beside those of its connections, a server may open a file or two for good. */
const DESCRIPTORS_MORE = 2;

export async function runEmbedded(options: EmbeddedOptions): Promise<EmbeddedOutcome> {
  const begunAt = performance.now();
  const random = new Random(options.seed);
  const findings = new Findings(options.say);
  const ledger = new Ledger(findings);
  const waits = new Waits();
  const disk = makeDisk();
  const small = await makeSmallDisk().catch((error: Error) => error.message);
  const clock = makeClock();
  const executable = join(temporaryFolder(), "ChatServer");
  copyFileSync(CHAT_SERVER, executable);
  const prefix = typeof clock === "string" ? [] : clock.prefix;
  const server = new EmbeddedServer(executable, await stablePort(), disk, prefix, findings);
  await server.start();
  const only = { index: 0, port: server.port } as Instance;
  const crowd = new Crowd({ users: USERS, rate: options.rate }, [only], ledger, waits, random.fork());
  await crowd.gather();
  const reader = await register(server.port);
  const unhealthy: string[] = [];
  const injected = new Map<string, number | string>();
  const count = (name: string) => injected.set(name, ((injected.get(name) as number | undefined) ?? 0) + 1);
  const world: EmbeddedWorld = {
    random: random.fork(),
    server,
    waits,
    disk,
    small,
    fault: (what) => {
      options.say(`BAD: ${what}`);
      unhealthy.push(what);
    },
    wait: (ms) => Bun.sleep(Math.min(ms, options.longestMs)),
    observe: () => login(server.port, reader),
  };
  const all = [...EMBEDDED_FAULTS, ...aside(clock, crowd.devices, only)].filter(
    ({ name }) => options.only.length === 0 || options.only.some((each) => name.includes(each)),
  );
  const possible: EmbeddedFault[] = [];
  for (const fault of all) {
    const why = (await fault.unavailable?.(world)) ?? null;
    injected.set(fault.name, why === null ? 0 : `not possible here: ${why}`);
    if (why === null) possible.push(fault);
  }
  crowd.write();

  const calm = new AbortController();
  const beside = injectBeside(
    possible.filter((fault) => fault.beside),
    world,
    count,
    calm.signal,
  );
  const checks: StoreCheck[] = [];
  const check = async () => {
    if (server.running !== null) await server.end("SIGKILL");
    const checked = await checkStore(server.place, ledger);
    checks.push(checked);
    crowd.check();
    if (checked.verdict !== "ok") world.fault(`PRAGMA integrity_check: ${checked.verdict}`);
    options.say(
      `${server.kills} kills, ${ledger.acked} acked, store: ${checked.rows} rows, ${checked.journalled} in the journal, ${findings.total} bad`,
    );
  };
  const inTurn = possible.filter((fault) => !fault.beside);
  const untried = world.random.shuffle(inTurn);
  for (let checkAt = CHECK_EVERY_KILLS; untried.length > 0 || server.kills < options.kills; ) {
    await world.wait(world.random.ms(200, 4_000));
    const fault = untried.pop() ?? choose(inTurn, world.random);
    count(fault.name);
    const at = performance.now();
    try {
      await fault.inject(world);
      if (server.running === null) await server.start();
      await waits.whenAcked(PATIENCE_MS);
    } catch (error) {
      world.fault(`${fault.name}: ${(error as Error).message}`);
      if (server.running === null) await server.start();
    }
    if (performance.now() - at > 15_000) options.say(`${fault.name} took ${Math.round(performance.now() - at)} ms`);
    if (server.kills < checkAt) continue;
    checkAt += CHECK_EVERY_KILLS;
    await check();
    await server.start();
  }

  const memoryMiB = await settle(server, options.settleMs);
  calm.abort();
  await beside;
  for (const { gate } of crowd.devices) gate.heal();
  await crowd.rest(PATIENCE_MS);
  await crowd.close();
  const { pid } = server.running!;
  await until(() => descriptorsOf(pid) <= server.descriptors + DESCRIPTORS_MORE, "its files are closed", 10_000).catch(
    () => unhealthy.push(`${descriptorsOf(pid)} open files in the end, ${server.descriptors} at the start`),
  );
  const descriptors: [number, number] = [server.descriptors, descriptorsOf(pid)];
  const code = await server.end("SIGTERM");
  if (code !== 0) findings.add("died", `SIGTERM ended it with ${code}`);
  await check();
  if (typeof small !== "string") small.stop();
  // A process that is younger is still warming up.
  if (options.settleMs >= 2 * MEMORY_AFTER_MS && memoryMiB[1] > memoryMiB[0] * MEMORY_GROWTH)
    unhealthy.push(`memory grew from ${memoryMiB[0]} to ${memoryMiB[1]} MiB`);
  if (server.complaints > 2) unhealthy.push(`${server.complaints} lines were logged of the store in one second`);
  const seconds = (performance.now() - begunAt) / 1_000;
  return { findings, ledger, server, waits, injected, checks, unhealthy, memoryMiB, descriptors, seconds };
}

/** What does not end the server, beside everything else, until `signal`. */
async function injectBeside(
  faults: EmbeddedFault[],
  world: EmbeddedWorld,
  count: (name: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const random = world.random.fork();
  const own = { ...world, random };
  const untried = random.shuffle(faults);
  while (faults.length > 0 && !signal.aborted) {
    await world.wait(random.ms(200, 3_000));
    const fault = untried.pop() ?? choose(faults, random);
    count(fault.name);
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

/** The server under load, undisturbed in its process; what it holds of memory early and late, MiB. */
async function settle(server: EmbeddedServer, ms: number): Promise<[number, number]> {
  const early = Math.min(MEMORY_AFTER_MS, ms / 2);
  await Bun.sleep(early);
  const first = Math.round(memoryOf(server.running!.pid));
  await Bun.sleep(ms - early);
  return [first, Math.round(memoryOf(server.running!.pid))];
}
