// Requests that are answered once or not at all: each waits for the connection and for its answer, within one time limit.
import { Errno, MAX_FRAME_BYTES, type Message } from "../protocol.ts";
import type { Connector } from "./connector.ts";
import { ClientError } from "./events.ts";
import { errorOf, type Outbox, type Queued, tooLarge, tooMany } from "./outbox.ts";

export class Requests {
  /** Of nobody who is logged in: they wait for the connection. */
  private readonly waiting = new Set<Queued>();
  /** All that are not answered. */
  private count = 0;

  constructor(
    private readonly connector: Connector,
    private readonly options: { requestTimeoutMs: number; maxOutstanding: number },
    /** Told of every success, before its caller is. */
    private readonly onSuccess: (request: Message, answer: Message) => void,
  ) {}

  /**
   * Writes `text`, which is `message`, when what was sent before is written: it stands in `queue`, or, where nobody is logged
   * in, needs a connection alone. Resolves with the answer.
   */
  async ask(message: Message, text: string, queue: Outbox | null): Promise<Message> {
    const { requestTimeoutMs, maxOutstanding } = this.options;
    if (this.count >= maxOutstanding) throw tooMany(maxOutstanding);
    if (Buffer.byteLength(text) > MAX_FRAME_BYTES) throw tooLarge();
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    const what = `request ${message.msgId}`;
    const settle = (answer: Message | null) => {
      if (answer === null)
        reject(new ClientError("lost", `${what}: the connection ended before the answer; it may have been done`));
      else if (answer.errno !== Errno.ok) reject(errorOf(answer));
      else {
        this.onSuccess(message, answer);
        resolve(answer);
      }
    };
    const request: Queued = { asked: { message, settle }, text, reject };
    const late = setTimeout(
      () => reject(new ClientError("timeout", `${what}: no answer within ${requestTimeoutMs / 1000} s`)),
      requestTimeoutMs,
    );
    this.count++;
    if (queue !== null) queue.addRequest(request);
    else if (this.connector.isConnected) this.connector.write(request.asked, text);
    else this.waiting.add(request);
    try {
      return await promise;
    } finally {
      this.count--;
      clearTimeout(late);
      this.waiting.delete(request);
      queue?.takeBack(request);
    }
  }

  /** The connection is there. */
  writeWaiting(): void {
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const { asked, text } of waiting) this.connector.write(asked, text);
  }

  /** Gives up what is not written. */
  fail(error: Error): void {
    for (const request of this.waiting) request.reject(error);
    this.waiting.clear();
  }
}
