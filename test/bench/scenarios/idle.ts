// Idle connections: what they cost in memory, before and after the log-in, and how fast a crowd gets in.
import { join } from "node:path";
import { MsgId } from "../../../src/protocol.ts";
import { temporaryFolder } from "../../harness.ts";
import type { Arguments } from "../arguments.ts";
import { type Sample, type Scenario, single } from "../case.ts";
import { connectAll, forEach, leave, logIn, register } from "../load/people.ts";
import { settledMiB } from "../meter.ts";
import { ask, connect, type Peer } from "../peer.ts";
import { type Build, during, startOn } from "../target.ts";

/** Connections before those that are measured: what the first ones cost the runtime is no connection's. */
const FIRST = 1_000;
/** The runtime looks through all of its memory once ten seconds were quiet: what log-ins leave behind is no session's. */
const QUIET_MS = 12_000;

async function idleMiB(pid: number): Promise<number> {
  await Bun.sleep(QUIET_MS);
  return settledMiB(pid);
}

/** All of them at once; milliseconds until the last is open, and until all are served. */
async function open(port: number, count: number): Promise<{ peers: Peer[]; openedMs: number; servedMs: number }> {
  const startedAt = performance.now();
  const peers = await Promise.all(Array.from({ length: count }, () => connect(port)));
  const openedMs = performance.now() - startedAt;
  await Promise.all(peers.map((peer) => ask(peer, { msgId: MsgId.heartbeat })));
  return { peers, openedMs, servedMs: performance.now() - startedAt };
}

async function measure(build: Build, count: number): Promise<Sample> {
  const file = join(temporaryFolder(), "chat.db");
  // Another process registers them: what that costs in memory is no connection's either.
  const users = await during(startOn(build, file), ({ port }) => register(port, FIRST + count));
  return during(startOn(build, file), async (server) => {
    const first = await connectAll(server.port, FIRST);
    await forEach(FIRST, async (index) => void (await logIn(first[index]!, users[index]!)));
    const before = await idleMiB(server.pid);
    const { peers, openedMs, servedMs } = await open(server.port, count);
    const connected = await idleMiB(server.pid);
    await forEach(count, async (index) => void (await logIn(peers[index]!, users[FIRST + index]!)));
    const loggedIn = await idleMiB(server.pid);
    const bytes = (mib: number) => ((mib - before) * 2 ** 20) / count;
    const sample = { openedMs, servedMs, connected: bytes(connected), loggedIn: bytes(loggedIn), mib: loggedIn };
    await leave([...first, ...peers]);
    return sample;
  });
}

export const idle: Scenario = {
  name: "idle",
  about: "idle connections: bytes of the server's memory each, and the time to open them all at once",
  cases: ({ connections }: Arguments) => [
    single(`${connections.toLocaleString("en")} connections`, (build) => measure(build, connections)),
  ],
};
