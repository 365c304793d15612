// Checkpoints of the embedded database: they copy its write-ahead log into the file. That takes as long as many commits
// and syncs twice, so a thread of its own does it, while the store goes on committing.
import { Database } from "bun:sqlite";

declare const self: Worker;

/** A checkpoint is due when this many pages (of 4 KiB) are in the log only. */
const COPY_PAGES = 2_000;
/** A log this long (32 MiB) is made to start over: it takes disk space, and after a crash the next start reads it. */
const RESTART_PAGES = 8_000;
/** The thread stops copying when fewer pages than this were added meanwhile, and leaves them to the store's thread. */
const REST_PAGES = 200;
const MAX_PASSES = 4;
/** Minimum interval between checks of the log's length. */
const LOOK_MS = 20;
/** Pause after a failed checkpoint: a full disk must not be burdened more than needed. */
const PAUSE_MS = 1_000;

/** `busy`: 1 where others prevent it. `log`: pages in the log; `checkpointed`: how many of these are in the file too. */
export const checkpoint = (db: Database, mode: "NOOP" | "PASSIVE" | "TRUNCATE") =>
  db.query(`PRAGMA wal_checkpoint(${mode})`).get() as { busy: number; log: number; checkpointed: number };

/** The store's side. The thread starts with the first checkpoint: a server that stores little never has it. */
export class Checkpointer {
  private thread: Worker | null = null;
  private isCopying = false;
  private lookAt = 0;

  /** `db` is the store's database, in `file`; `program` must call serveCheckpoints. */
  constructor(
    private readonly db: Database,
    private readonly file: string,
    private readonly program: URL,
  ) {
    db.run("PRAGMA wal_autocheckpoint = 0");
  }

  /** Starts a checkpoint if one is due. To be called often, outside transactions. */
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
    await new Promise((resolve) => {
      thread.addEventListener("close", resolve);
      thread.postMessage(null);
    });
  }

  private start(): Worker {
    const thread = new Worker(this.program);
    thread.onmessage = ({ data: isDone }: MessageEvent<boolean>) => this.answered(isDone);
    // "close" follows.
    thread.onerror = () => undefined;
    thread.addEventListener("close", () => {
      // It is not restarted: from now on the store copies inside its commits.
      this.thread = null;
      this.lookAt = Number.POSITIVE_INFINITY;
      this.db.run(`PRAGMA wal_autocheckpoint = ${COPY_PAGES}`);
    });
    return thread;
  }

  /**
   * Once a log is copied completely, the next commit writes it from its beginning again. So the rest of a long one is
   * copied here; all of it, where the thread cannot.
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

/** Makes this thread the copying one: given the file, it answers whether copying worked; given null, it ends. */
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
