// What the embedded soak needs before it begins: a server on its two disks with a clock, its users, and the faults that are
// possible here.
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { CHAT_SERVER, temporaryFolder } from "../harness.ts";
import { login, register } from "../wire.ts";
import { Crowd } from "./crowd.ts";
import type { EmbeddedOptions } from "./embedded.ts";
import { EMBEDDED_FAULTS, type EmbeddedFault, type EmbeddedWorld } from "./embedded-faults.ts";
import { makeDisk, makeSmallDisk } from "./embedded-place.ts";
import { Waits } from "./embedded-recovery.ts";
import { resendOf } from "./embedded-resend.ts";
import { EmbeddedServer } from "./embedded-server.ts";
import { aside } from "./embedded-side.ts";
import { makeClock } from "./faketime.ts";
import type { Instance } from "./fault.ts";
import { stablePort } from "./instance.ts";
import { Findings, Ledger } from "./ledger.ts";
import { Random } from "./random.ts";

const USERS = 16;

export interface Setup {
  world: EmbeddedWorld;
  crowd: Crowd;
  ledger: Ledger;
  possible: EmbeddedFault[];
  /** How often each fault was injected; or why it is not possible. */
  injected: Map<string, number | string>;
  /** What is not as it should be beside the findings. */
  unhealthy: string[];
  /** Removes what does not go by itself. */
  stop(): void;
}

export async function setUp(options: EmbeddedOptions): Promise<Setup> {
  const random = new Random(options.seed);
  const findings = new Findings(options.say);
  const ledger = new Ledger(findings);
  const waits = new Waits();
  const disk = makeDisk();
  const small = await makeSmallDisk().catch((error: Error) => error.message);
  const clock = makeClock();
  // Who builds meanwhile replaces the other one.
  const executable = join(temporaryFolder(), "ChatServer");
  copyFileSync(CHAT_SERVER, executable);
  const prefix = typeof clock === "string" ? [] : clock.prefix;
  const server = new EmbeddedServer(executable, await stablePort(), disk, prefix, findings);
  await server.start();
  // Its clients' place to connect to; nothing else of an instance is asked for.
  const only = { index: 0, port: server.port } as Instance;
  const crowd = new Crowd({ users: USERS, rate: options.rate }, [only], ledger, waits, random.fork());
  await crowd.gather();
  const reader = await register(server.port);
  const unhealthy: string[] = [];
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
  const injected = new Map<string, number | string>();
  const possible: EmbeddedFault[] = [];
  const faults = [...EMBEDDED_FAULTS, resendOf(crowd.devices, ledger), ...aside(clock, crowd.devices, only)];
  for (const fault of faults) {
    if (options.only.length > 0 && !options.only.some((each) => fault.name.includes(each))) continue;
    const why = (await fault.unavailable?.(world)) ?? null;
    injected.set(fault.name, why ?? 0);
    if (why === null) possible.push(fault);
  }
  const stop = () => {
    if (typeof small !== "string") small.stop();
  };
  return { world, crowd, ledger, possible, injected, unhealthy, stop };
}
