// The compiled server on its embedded database against a bare relay, side by side.
import { join } from "node:path";
import { CHEAP_PASSWORDS, startServer, temporaryFolder } from "../harness.ts";
import type { Arguments } from "./arguments.ts";
import { type Measured, type Ports, run } from "./load.ts";
import { Meter, residentMiB } from "./meter.ts";
import { header, machine, median, row, share } from "./report.ts";

interface Sample extends Measured {
  /** Share of one core. */
  cpu: number;
  memory: number;
}

async function measure(pid: number, ports: Ports, given: Arguments, window: number): Promise<Sample> {
  const { pairs, textBytes, seconds } = given;
  const meter = new Meter([pid]);
  const measured = await run(ports, { pairs, window, textBytes, seconds, meter });
  return { ...measured, cpu: meter.cores[0]!, memory: residentMiB(pid) };
}

async function measureServer(given: Arguments, window: number): Promise<Sample> {
  const server = await startServer(join(temporaryFolder(), "chat.db"), CHEAP_PASSWORDS);
  try {
    return await measure(server.pid, { senders: server.port, receivers: server.port }, given, window);
  } finally {
    await server.stop();
  }
}

async function measureRelay(given: Arguments, window: number): Promise<Sample> {
  const relay = Bun.spawn([process.execPath, join(import.meta.dir, "relay.ts")], { stdout: "pipe", stdin: "ignore" });
  try {
    const { value } = await relay.stdout.getReader().read();
    const port = Number(/:(\d+)\n/.exec(new TextDecoder().decode(value))![1]);
    return await measure(relay.pid, { senders: port, receivers: port, bare: true }, given, window);
  } finally {
    relay.kill();
    await relay.exited;
  }
}

export async function benchEmbedded(given: Arguments): Promise<void> {
  const { runs, seconds, pairs, textBytes, windows } = given;
  console.log(
    `${machine()}; ${pairs} pairs, ${textBytes}-byte texts, medians of ${runs} runs of ${seconds} s; nothing lost, doubled or out of order\n`,
  );
  header(["", "window", "delivered/s", "acked/s", "p50 ms", "p99 ms", "CPU cores", "MiB", "of the relay"]);
  for (const window of windows) {
    const samples: Record<"server" | "relay", Sample[]> = { server: [], relay: [] };
    for (let i = 0; i < runs; i++) {
      samples.server.push(await measureServer(given, window));
      samples.relay.push(await measureRelay(given, window));
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
        Math.round(median(of, (sample) => sample.memory)),
        share(median(of, rate), relayRate),
      ]);
  }
}
