// Requests of a connection that are not answered yet. Answers come in the order of the requests.
import { type Message, MsgId } from "../protocol.ts";

export interface Asked {
  /** As it was sent. */
  readonly message: Message;
  /** Called at most once: with the answer, whatever its errno, or null where the connection broke before it came. */
  settle(answer: Message | null): void;
}

const ANSWERS = new Set<number>([MsgId.registered, MsgId.loggedIn, MsgId.answer]);
/** Slowest link allowed for: a large message shows no progress until the server has all of it. */
const SLOWEST_BYTES_PER_MS = 32;
/** Requests that the server answers without finishing anything else first. */
const QUICK = new Set<number>([MsgId.chat, MsgId.groupChat, MsgId.confirm, MsgId.heartbeat]);

/** Whether a message is an answer, as opposed to a push. */
export const isAnswer = ({ msgId }: Message): boolean => ANSWERS.has(msgId);

export class InFlight {
  private waiting: { asked: Asked; at: number }[] = [];

  add(asked: Asked): void {
    this.waiting.push({ asked, at: performance.now() });
  }

  /** Removes and returns the request that an answer belongs to. */
  take({ reqId }: Message): Asked | undefined {
    // An answer that names no request (errno 15 and 18) belongs to the oldest one.
    const at = reqId === undefined ? 0 : this.waiting.findIndex(({ asked }) => asked.message.reqId === reqId);
    return at < 0 ? undefined : this.waiting.splice(at, 1)[0]?.asked;
  }

  /** Settles all requests with null: no answer will come. */
  break(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const { asked } of waiting) asked.settle(null);
  }

  /** Whether the oldest request has waited longer than its kind may take, with no sign of life since `progressAt`. */
  isOverdue(progressAt: number, quickMs: number, slowMs: number): boolean {
    const oldest = this.waiting[0];
    if (oldest === undefined) return false;
    const { msgId, token, msg } = oldest.asked.message;
    // A login by token does not wait for a password hash.
    const limit = QUICK.has(msgId) || token !== undefined ? quickMs : slowMs;
    const onItsWayMs = typeof msg === "string" ? Buffer.byteLength(msg) / SLOWEST_BYTES_PER_MS : 0;
    return performance.now() - Math.max(oldest.at, progressAt) > limit + onItsWayMs;
  }
}
