// The one server of the embedded soak: started, ended and started again on one port, wherever its files are, and measured.
import { CHEAP_PASSWORDS, type RunningServer, startAs, started } from "../harness.ts";
import type { Place } from "./embedded-place.ts";
import type { Findings } from "./ledger.ts";
import { Samples } from "./recovery.ts";
import { descriptorsOf } from "./resources.ts";

/** A line about what the store cannot do, and its second. */
const COMPLAINT = /^(\S+ \S+) (?:ERROR|WARN ) .*SQLITE_/;

export class EmbeddedServer {
  running: RunningServer | null = null;
  /** From the start of the process to its readiness; the first one makes the database. */
  readonly starts = new Samples();
  kills = 0;
  /** The most lines that one second has logged of what went wrong. */
  complaints = 0;
  /** Descriptors of the first one that was ready, before anybody connected. */
  descriptors = 0;
  /** Of a server that is expected to end. */
  private leaving: RunningServer | null = null;

  constructor(
    /** One that nobody replaces meanwhile. */
    private readonly executable: string,
    readonly port: number,
    public place: Place,
    /** Before its command: its clock. */
    private readonly clock: string[],
    private readonly findings: Findings,
  ) {}

  /** Starts it, which must succeed. */
  async start(): Promise<void> {
    const startedAt = performance.now();
    const server = await startAs(this.command);
    this.starts.add(performance.now() - startedAt);
    if (this.starts.count === 1) this.descriptors = descriptorsOf(server.pid);
    this.running = server;
    server.exited.then((code) => {
      this.readLog(server.log());
      if (this.leaving === server) return;
      this.running = null;
      this.findings.add("died", `the server ended by itself with ${code}: ${server.log().slice(-500)}`);
    });
  }

  /** Starts it where that need not succeed; the line that it says why not, or null where it runs. */
  async tryStart(): Promise<string | null> {
    try {
      await this.start();
      return null;
    } catch (error) {
      const said = (error as Error).message
        .split("\n")
        .slice(1)
        .filter((line) => line !== "");
      const why = said.find((line) => /^ChatServer: .*chat\.db/.test(line));
      if (why !== undefined && said.at(-1) === why) return why;
      this.findings.add("died", `no start, and no line that says why: ${(error as Error).message}`);
      return "";
    }
  }

  /** Starts a process and kills it after `ms`, in the midst of its start. */
  async startAndKill(ms: number): Promise<void> {
    const process = Bun.spawn(this.command, { stdio: ["ignore", "ignore", "ignore"] });
    started.add(process);
    await Bun.sleep(ms);
    process.kill("SIGKILL");
    this.kills++;
    await process.exited;
    started.delete(process);
  }

  /** Ends it with a signal; the exit code, or null where the signal ended it, or nothing ran. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    const server = this.running;
    if (server === null) return null;
    this.leaving = server;
    this.running = null;
    if (signal === "SIGKILL") this.kills++;
    return server.stop(signal);
  }

  /** SIGSTOP and SIGCONT; nothing where nothing runs. */
  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    if (this.running !== null) process.kill(this.running.pid, signal);
  }

  private get command(): string[] {
    const { executable, port, place, clock } = this;
    const flags = ["--host", "127.0.0.1", "--data", place.file, ...CHEAP_PASSWORDS];
    return [...place.inside, ...clock, executable, String(port), ...flags];
  }

  private readLog(log: string): void {
    const seconds = new Map<string, number>();
    for (const line of log.split("\n")) {
      if (line.includes(" bug: ") || line.includes("panic")) this.findings.add("died", line);
      const second = COMPLAINT.exec(line)?.[1];
      if (second !== undefined) seconds.set(second, (seconds.get(second) ?? 0) + 1);
    }
    this.complaints = Math.max(this.complaints, ...seconds.values());
  }
}
