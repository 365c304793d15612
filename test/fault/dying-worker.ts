// Loaded before the program of a worker thread, and before the server's to see to that: a bug ends the store's thread
// when the file $DIE_WHEN appears.
import { existsSync } from "node:fs";

if (Bun.isMainThread) {
  const { Worker: RealWorker } = globalThis;
  globalThis.Worker = class extends RealWorker {
    constructor(program: string | URL) {
      super(program, { preload: import.meta.path } as WorkerOptions);
    }
  };
} else
  setInterval(() => {
    if (existsSync(process.env.DIE_WHEN!)) throw new Error("a bug of the store");
  }, 5);
