// Requests that are answered once or not at all: each waits for the connection and for its answer, within one time limit.
import { Errno, MAX_FRAME_BYTES, type Message } from "../protocol.ts";
import type { Connector } from "./connector.ts";
import { ClientError } from "./events.ts";
import type { Asked } from "./in-flight.ts";
import { errorOf, tooLarge, tooMany } from "./outbox.ts";

interface Request extends Asked {
  readonly text: string;
  fail(error: Error): void;
}

export class Requests {
  /** Not written yet. */
  private readonly waiting = new Set<Request>();

  constructor(
    private readonly connector: Connector,
    private readonly options: { requestTimeoutMs: number; maxOutstanding: number },
    /** Told of every success, before its caller is. */
    private readonly onSuccess: (request: Message, answer: Message) => void,
  ) {}

  /** Writes `text`, which is `message`, where `isReady`, else with the next `writeWaiting`; resolves with the answer. */
  async ask(message: Message, text: string, isReady: boolean): Promise<Message> {
    const { requestTimeoutMs, maxOutstanding } = this.options;
    if (this.waiting.size + this.connector.asked >= 2 * maxOutstanding) throw tooMany(maxOutstanding);
    if (Buffer.byteLength(text) > MAX_FRAME_BYTES) throw tooLarge();
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    const what = `request ${message.msgId}`;
    const request: Request = {
      message,
      text,
      settle: (answer) => {
        if (answer === null)
          reject(new ClientError("lost", `${what}: the connection ended before the answer; it may have been done`));
        else if (answer.errno !== Errno.ok) reject(errorOf(answer));
        else {
          this.onSuccess(message, answer);
          resolve(answer);
        }
      },
      fail: reject,
    };
    const late = setTimeout(
      () => reject(new ClientError("timeout", `${what}: no answer within ${requestTimeoutMs / 1000} s`)),
      requestTimeoutMs,
    );
    if (isReady) this.connector.write(request, text);
    else this.waiting.add(request);
    try {
      return await promise;
    } finally {
      clearTimeout(late);
      this.waiting.delete(request);
    }
  }

  /** The connection is there, and resumed where somebody is logged in. */
  writeWaiting(): void {
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const request of waiting) this.connector.write(request, request.text);
  }

  /** Gives up what is not written. */
  fail(error: Error): void {
    for (const request of this.waiting) request.fail(error);
    this.waiting.clear();
  }
}
