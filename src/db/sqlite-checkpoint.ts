// Checkpoints of the embedded database: what its write-ahead log holds is copied into the file. That takes as long as
// many commits and is synced twice, so a thread of its own does it, and the store's commits on meanwhile.
import { Database } from "bun:sqlite";

declare const self: Worker;

/** So many pages (of 4 KiB) that are in the log alone are worth copying. */
const COPY_PAGES = 2_000;
/** So long a log begins anew: it takes 32 MiB of the disk, and a crash makes the next start read it. */
const RESTART_PAGES = 8_000;
/** So few pages that have come meanwhile are left to the store's thread. */
const REST_PAGES = 200;
const MAX_PASSES = 4;
/** How often the log's length is asked for, at most. */
const LOOK_MS = 20;
/** No checkpoint for this long after one that failed: a full disk must not be asked for more than is needed. */
const PAUSE_MS = 1_000;

/** `log` and `checkpointed`: pages in the log, and of them those that are in the file too. */
export const checkpoint = (db: Database, mode: "NOOP" | "PASSIVE") =>
  db.query(`PRAGMA wal_checkpoint(${mode})`).get() as { log: number; checkpointed: number };

/** The store's side. The thread starts with the first checkpoint: a server that stores little never has it. */
export class Checkpointer {
  private thread: Worker | null = null;
  private isCopying = false;
  private lookAt = 0;

  /** `db` is the store's, which is in `file`; `program` is to call serveCheckpoints. */
  constructor(
    private readonly db: Database,
    private readonly file: string,
    private readonly program: URL,
  ) {
    db.run("PRAGMA wal_autocheckpoint = 0");
  }

  /** Starts a checkpoint where one is due. To be called outside transactions, often. */
  look(): void {
    const now = performance.now();
    if (this.isCopying || now < this.lookAt) return;
    this.lookAt = now + LOOK_MS;
    try {
      const { log, checkpointed } = checkpoint(this.db, "NOOP");
      if (log - checkpointed < COPY_PAGES) return;
      this.thread ??= this.start();
      this.thread.postMessage(this.file);
      this.isCopying = true;
    } catch {
      this.pause();
    }
  }

  /** Waits for a checkpoint under way, and ends the thread. */
  async close(): Promise<void> {
    const { thread } = this;
    if (thread === null) return;
    this.thread = null;
    await new Promise((resolve) => {
      thread.addEventListener("close", resolve);
      thread.postMessage(null);
    });
  }

  private start(): Worker {
    const thread = new Worker(this.program);
    thread.onmessage = ({ data: isDone }: MessageEvent<boolean>) => this.answered(isDone);
    // Its end follows.
    thread.onerror = () => undefined;
    thread.addEventListener("close", () => {
      if (this.thread !== thread) return;
      // Nothing brings it back: from now on the store copies inside its commits.
      this.thread = null;
      this.lookAt = Number.POSITIVE_INFINITY;
      this.db.run(`PRAGMA wal_autocheckpoint = ${COPY_PAGES}`);
    });
    return thread;
  }

  /**
   * A log that is copied to its end is written from its beginning by the next commit: of a long one the rest is copied
   * here, and all of it where the thread cannot.
   */
  private answered(isDone: boolean): void {
    this.isCopying = false;
    if (!isDone) this.pause();
    try {
      if (checkpoint(this.db, "NOOP").log >= RESTART_PAGES) checkpoint(this.db, "PASSIVE");
    } catch {
      this.pause();
    }
  }

  private pause(): void {
    this.lookAt = performance.now() + PAUSE_MS;
  }
}

/** Makes this thread the one that copies: told the file, it answers whether that was possible; told null, it ends. */
export function serveCheckpoints(): void {
  let db: Database | undefined;
  self.onmessage = ({ data: file }: MessageEvent<string | null>) => {
    if (file === null) {
      db?.close();
      process.exit();
    }
    try {
      db ??= new Database(file, { create: false, readwrite: true });
      for (let passes = 0, known = 0; passes < MAX_PASSES; passes++) {
        const { log } = checkpoint(db, "PASSIVE");
        if (log - known < REST_PAGES) break;
        known = log;
      }
      self.postMessage(true);
    } catch {
      self.postMessage(false);
    }
  };
}
