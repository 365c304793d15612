// One server of the soak's cluster: its process over many starts, on one port, with gates of its own to the services.
import { createServer } from "node:net";
import { CHEAP_PASSWORDS, type RunningServer, startAs } from "../harness.ts";
import type { Instance } from "./fault.ts";
import type { Gate } from "./gate.ts";
import type { Findings } from "./ledger.ts";
import type { Protocol } from "./protocol.ts";

/** It tries to start for so long; a database may be away. */
const START_MS = 120_000;
/** --drain-timeout is 10 s. */
const DRAIN_MS = 20_000;

export interface Surroundings {
  /** The executable, which nobody replaces while the soak runs. */
  executable: string;
  mysqlUrl: string;
  /** Before its command: what sets its surroundings up. */
  prefix: string[];
  findings: Findings;
  protocol: Protocol;
}

export class SoakInstance implements Instance {
  running: RunningServer | null = null;
  startedAt = 0;
  private isPaused = false;

  constructor(
    readonly index: number,
    readonly port: number,
    readonly toMariadb: Gate,
    readonly toRedis: Gate,
    private readonly surroundings: Surroundings,
  ) {}

  async start(): Promise<void> {
    const { protocol } = this.surroundings;
    const end = performance.now() + START_MS;
    while (this.running === null) {
      try {
        this.running = await startAs(this.command, { prefix: this.surroundings.prefix });
      } catch (error) {
        protocol.server(this.index, (error as Error).message);
        if (performance.now() > end) throw error;
        await Bun.sleep(500);
      }
    }
    this.startedAt = performance.now();
    this.isPaused = false;
    const { running } = this;
    running.exited.then((code) => {
      protocol.server(this.index, running.log());
      if (this.running !== running) return;
      this.running = null;
      const last = running.log().trimEnd().split("\n").at(-1);
      this.surroundings.findings.add("died", `instance ${this.index} ended by itself with ${code}: ${last}`);
    });
  }

  async kill(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    const { running } = this;
    if (running === null) return null;
    this.running = null;
    const ended = running.stop(signal);
    if (this.isPaused) process.kill(running.pid, "SIGCONT");
    const late = setTimeout(() => {
      this.surroundings.findings.add("died", `instance ${this.index} did not end within ${DRAIN_MS} ms of ${signal}`);
      running.stop("SIGKILL");
    }, DRAIN_MS);
    const code = await ended;
    clearTimeout(late);
    if (signal === "SIGTERM" && code !== 0)
      this.surroundings.findings.add("died", `instance ${this.index} ended with ${code} on SIGTERM`);
    return code;
  }

  pause(): void {
    this.isPaused = true;
    if (this.running !== null) process.kill(this.running.pid, "SIGSTOP");
  }

  resume(): void {
    this.isPaused = false;
    if (this.running !== null) process.kill(this.running.pid, "SIGCONT");
  }

  private get command(): string[] {
    const { executable, mysqlUrl } = this.surroundings;
    const mysql = new URL(mysqlUrl);
    mysql.port = String(this.toMariadb.port);
    const listen = [String(this.port), "--host", "127.0.0.1"];
    const services = ["--mysql", mysql.href, "--redis", `redis://127.0.0.1:${this.toRedis.port}`];
    return [executable, ...listen, ...services, ...CHEAP_PASSWORDS];
  }
}

/** Below those that the kernel gives to outgoing connections: nobody takes it while the server is away. */
const [LOWEST, HIGHEST] = [15_000, 30_000];

export async function stablePort(): Promise<number> {
  for (;;) {
    const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST));
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = createServer().on("error", () => resolve(false));
  probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  return promise;
}
