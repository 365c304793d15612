// Requests that are never resent: each waits for the connection and for its answer, within one time limit.
import { Errno, MAX_FRAME_BYTES, type Message } from "../protocol.ts";
import type { Connector } from "./connector.ts";
import { ClientError } from "./events.ts";
import { errorOf, type Outbox, type Queued, tooLarge, tooMany } from "./outbox.ts";

export class Requests {
  /** Requests made while nobody is logged in, waiting for the connection. */
  private readonly waiting = new Set<Queued>();
  /** How many are unanswered. */
  private count = 0;

  constructor(
    private readonly connector: Connector,
    private readonly options: { requestTimeoutMs: number; maxOutstanding: number },
    /** Called for every success, before its caller is told. */
    private readonly onSuccess: (request: Message, answer: Message) => void,
  ) {}

  /**
   * Writes `text`, the JSON of `message`, after what was sent before: by way of `queue`, or, while nobody is logged in
   * (null), as soon as there is a connection. Resolves to the answer.
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

  /** There is a connection now: writes what waited for it. */
  writeWaiting(): void {
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const { asked, text } of waiting) this.connector.write(asked, text);
  }

  /** Gives up requests that wait for a connection. */
  fail(error: Error): void {
    for (const request of this.waiting) request.reject(error);
    this.waiting.clear();
  }
}
