// Password hashes: argon2id in the runtime's threads, as many at once as there are cores, behind a bounded queue.
import { availableParallelism } from "node:os";
import { ChatError, Errno } from "../protocol.ts";

export interface PasswordOptions {
  /** Memory of one hash, KiB. */
  memoryKiB: number;
  /** Passes over that memory. */
  passes: number;
  /** How many logins and registrations may wait for a hash. */
  queueLimit: number;
}

export class Passwords {
  private readonly parallel = Math.max(1, availableParallelism());
  private running = 0;
  private readonly queue: (() => void)[] = [];
  /** How long a hash has taken lately, milliseconds (moving average). */
  private recentMs = 50;
  private nobody: Promise<string> | null = null;

  constructor(private readonly options: PasswordOptions) {}

  hash(password: string): Promise<string> {
    const { memoryKiB: memoryCost, passes: timeCost } = this.options;
    return this.queued(() => Bun.password.hash(password, { algorithm: "argon2id", memoryCost, timeCost }));
  }

  /** Whether `password` matches `hash`; false for null (an unknown user), at the same cost. */
  async verify(password: string, hash: string | null): Promise<boolean> {
    const against = hash ?? (await this.hashOfNobody());
    const matches = await this.queued(() => Bun.password.verify(password, against));
    return matches && hash !== null;
  }

  /** Whether a hash was made with other parameters than the current ones. */
  isOutdated(hash: string): boolean {
    return !hash.startsWith(`$argon2id$v=19$m=${this.options.memoryKiB},t=${this.options.passes},`);
  }

  /** A hash that no password matches. Made once, in advance: else the first unknown user would cost twice. */
  hashOfNobody(): Promise<string> {
    this.nobody ??= this.hash(crypto.randomUUID());
    this.nobody.catch(() => {
      this.nobody = null;
    });
    return this.nobody;
  }

  /** Throws errno 16 where too many are waiting. */
  private async queued<T>(work: () => Promise<T>): Promise<T> {
    if (this.running >= this.parallel) {
      if (this.queue.length >= this.options.queueLimit) {
        const servedMs = (this.queue.length * this.recentMs) / this.parallel;
        // Randomised, so that they do not all come back at once.
        const retryAfterMs = Math.ceil(servedMs * (1 + Math.random()));
        throw new ChatError(Errno.rateLimited, "too many logins at once: try again later", { retryAfterMs });
      }
      await new Promise<void>((resolve) => this.queue.push(resolve));
    } else this.running++;
    const startedAt = performance.now();
    try {
      return await work();
    } finally {
      this.recentMs += (performance.now() - startedAt - this.recentMs) / 8;
      // The slot passes to the next in the queue.
      const next = this.queue.shift();
      if (next === undefined) this.running--;
      else next();
    }
  }
}
