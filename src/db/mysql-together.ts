// Calls of operations that many make at once: those that gathered while earlier ones were run share one transaction.
import { ChatError } from "../protocol.ts";
import { ALONE, type Call, StoreError } from "./db.ts";

/** Calls per transaction: bounds what it reads. */
const MAX_CALLS = 200;
const MAX_WAITING = 100_000;
/** How long calls wait for the transactions under way, to share the next one, before they get another beside them. */
const PATIENCE_MS = 5;

interface Waiting {
  call: Call;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

export class Gathering {
  private waiting: Waiting[] = [];
  private working = 0;
  /** Runs while calls wait for a transaction under way. */
  private late: Timer | undefined;

  constructor(
    /** See Together. */
    private readonly runAll: (calls: Call[]) => Promise<unknown[]>,
    private readonly runAlone: (call: Call) => Promise<unknown>,
    /** Concurrent transactions. */
    private readonly atOnce: number,
  ) {}

  add(call: Call): Promise<unknown> {
    if (this.waiting.length >= MAX_WAITING) throw new StoreError("too many requests are waiting for the database");
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.waiting.push({ call, resolve, reject });
    if (this.working === 0 || this.waiting.length >= MAX_CALLS) this.help();
    else this.late ??= setTimeout(() => this.help(), PATIENCE_MS);
    return promise;
  }

  /** Works on what waits beside those who already do, as far as that is allowed. */
  private help(): void {
    if (this.working < this.atOnce) this.work();
  }

  private async work(): Promise<void> {
    this.working++;
    // What arrives in this turn of the loop belongs together.
    await Promise.resolve();
    while (this.waiting.length > 0) {
      clearTimeout(this.late);
      this.late = undefined;
      await this.run(this.waiting.splice(0, MAX_CALLS));
    }
    this.working--;
  }

  private async run(some: Waiting[]): Promise<void> {
    try {
      const outcomes = await this.runAll(some.map(({ call }) => call));
      for (const [i, { call, resolve, reject }] of some.entries()) {
        const outcome = outcomes[i];
        if (outcome instanceof ChatError) reject(outcome);
        // The others do not wait for it.
        else resolve(outcome === ALONE ? this.runAlone(call) : outcome);
      }
    } catch (error) {
      for (const { reject } of some) reject(error);
    }
  }
}
