// npm run bench: the compiled server against a bare relay, side by side, over loopback from this process. Every message
// is stored with fsync and acknowledged. Prints medians over the runs.
import { readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { CHEAP_PASSWORDS, startServer, temporaryFolder } from "../harness.ts";
import { type Measured, run } from "./load.ts";

const argument = (name: string, otherwise: number): number => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
};
const RUNS = argument("runs", 3);
const SECONDS = argument("seconds", 3);
const PAIRS = argument("pairs", 50);
const TEXT_BYTES = argument("text", 64);
const only = argument("window", 0);
const WINDOWS = only > 0 ? [only] : [1, 16, 64];

interface Sample extends Measured {
  /** Share of one core. */
  cpu: number;
  residentMiB: number;
}

/** Seconds of processor time a process has used. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

const residentMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;

async function measure(pid: number, port: number, register: boolean, window: number): Promise<Sample> {
  const before = cpuSeconds(pid);
  const measured = await run(port, register, { pairs: PAIRS, window, textBytes: TEXT_BYTES, seconds: SECONDS });
  return { ...measured, cpu: (cpuSeconds(pid) - before) / measured.seconds, residentMiB: residentMiB(pid) };
}

async function measureServer(window: number): Promise<Sample> {
  const server = await startServer(join(temporaryFolder(), "chat.db"), CHEAP_PASSWORDS);
  try {
    return await measure(server.pid, server.port, true, window);
  } finally {
    await server.stop();
  }
}

async function measureRelay(window: number): Promise<Sample> {
  const relay = Bun.spawn([process.execPath, join(import.meta.dir, "relay.ts")], { stdout: "pipe", stdin: "ignore" });
  try {
    const { value } = await relay.stdout.getReader().read();
    return await measure(relay.pid, Number(/:(\d+)\n/.exec(new TextDecoder().decode(value))![1]), false, window);
  } finally {
    relay.kill();
    await relay.exited;
  }
}

const median = (samples: Sample[], of: (sample: Sample) => number): number =>
  samples.map(of).sort((a, b) => a - b)[Math.floor(samples.length / 2)]!;

const row = (cells: (string | number)[]): void => console.log(`| ${cells.map((cell) => String(cell)).join(" | ")} |`);

console.log(
  `${cpus().length} x ${cpus()[0]!.model}, ${Math.round(totalmem() / 2 ** 30)} GiB; ${PAIRS} pairs, ${TEXT_BYTES}-byte texts, medians of ${RUNS} runs of ${SECONDS} s\n`,
);
row(["", "window", "delivered/s", "acked/s", "p50 ms", "p99 ms", "CPU cores", "MiB", "of the relay"]);
row(Array(9).fill("---"));
for (const window of WINDOWS) {
  const samples: Record<"server" | "relay", Sample[]> = { server: [], relay: [] };
  for (let i = 0; i < RUNS; i++) {
    samples.server.push(await measureServer(window));
    samples.relay.push(await measureRelay(window));
  }
  const rate = (sample: Sample) => sample.delivered / sample.seconds;
  const relayRate = median(samples.relay, rate);
  for (const [name, of] of Object.entries(samples))
    row([
      name === "server" ? "ChatServer" : "bare relay",
      window,
      Math.round(median(of, rate)),
      Math.round(median(of, (sample) => sample.acked / sample.seconds)),
      median(of, (sample) => sample.p50).toFixed(2),
      median(of, (sample) => sample.p99).toFixed(2),
      median(of, (sample) => sample.cpu).toFixed(2),
      Math.round(median(of, (sample) => sample.residentMiB)),
      `${Math.round((100 * median(of, rate)) / relayRate)} %`,
    ]);
}
