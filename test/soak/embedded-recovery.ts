// How long the embedded server's users wait after a fault for their first acknowledgement.
import { until } from "../harness.ts";
import { Recovery, Samples } from "./recovery.ts";

/** From the kill, with the start in it; from SIGTERM; from when writes are possible again; from SIGCONT. */
export type Wait = "kill -9" | "SIGTERM" | "writes possible again" | "SIGCONT";

export class Waits extends Recovery {
  readonly waits: Record<Wait, Samples> = {
    "kill -9": new Samples(),
    SIGTERM: new Samples(),
    "writes possible again": new Samples(),
    SIGCONT: new Samples(),
  };
  private expected: { wait: Wait; at: number } | null = null;

  /** What is acknowledged from now on counts, as if waited for since `at`. */
  expect(wait: Wait, at = performance.now()): void {
    this.expected = { wait, at };
  }

  override acked(): void {
    if (this.expected === null) return;
    this.waits[this.expected.wait].add(performance.now() - this.expected.at);
    this.expected = null;
  }

  override told(): void {}

  /** Resolves when what was expected has come; rejects after `ms`. */
  whenAcked(ms: number): Promise<void> {
    return until(() => this.expected === null, "an acknowledgement", ms);
  }
}
