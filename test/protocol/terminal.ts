// A terminal with `nc`, over a plain socket of another library than the server's.
import { createConnection } from "node:net";
import type { Message } from "../../src/protocol.ts";
import { until } from "../harness.ts";

/** A terminal with `nc`: lines out, lines in. */
export class Terminal {
  private readonly lines: string[] = [];
  private readonly socket;

  constructor(port: number) {
    let rest = "";
    this.socket = createConnection(port, "127.0.0.1");
    this.socket.on("data", (chunk) => {
      const parts = (rest + chunk).split("\n");
      rest = parts.pop()!;
      this.lines.push(...parts);
    });
  }

  type(line: string): void {
    this.socket.write(`${line}\n`);
  }

  /** The next line that is printed. */
  async read(): Promise<Message> {
    await until(() => this.lines.length > 0, "the next line");
    return JSON.parse(this.lines.shift()!);
  }

  get printed(): string[] {
    return this.lines;
  }

  async close(): Promise<void> {
    const closed = new Promise((done) => this.socket.once("close", done));
    this.socket.end();
    await closed;
  }
}
