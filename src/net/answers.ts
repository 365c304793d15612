// Reorders answers: they leave in the order of their requests, in whatever order they become ready.
import type { Outgoing } from "./encode.ts";

export interface AnswerSink {
  writeAnswer(message: Outgoing): void;
}

/** Answers that have left are removed once they are this many and half of the list: it moves the rest. */
const MANY_DONE = 64;

export class Answers {
  /** By slot from `first` on: null while under way or once it has left, "" for no answer. Null: none outstanding. */
  private list: (Outgoing | null)[] | null = null;
  private first = 0;
  /** How many at the beginning of the list have left. */
  private done = 0;

  /** Requests that are unanswered, or whose answers wait for earlier ones. */
  get size(): number {
    return this.list === null ? 0 : this.list.length - this.done;
  }

  /** Reserves the slot of the next request's answer. */
  reserve(): number {
    if (this.list === null) this.list = [null];
    else this.list.push(null);
    return this.first + this.list.length - 1;
  }

  /** Fills a slot and hands the answers that can leave now to `sink`; false where none can. */
  fill(slot: number, answer: Outgoing, sink: AnswerSink): boolean {
    const { list, done } = this;
    if (list === null) return false;
    list[slot - this.first] = answer;
    while (this.done < list.length && list[this.done] !== null) {
      const ready = list[this.done]!;
      list[this.done++] = null;
      if (ready !== "") sink.writeAnswer(ready);
    }
    if (this.done === done) return false;
    this.shorten(list);
    return true;
  }

  clear(): void {
    this.list = null;
    this.done = 0;
  }

  private shorten(list: (Outgoing | null)[]): void {
    const { done } = this;
    if (done < list.length && (done < MANY_DONE || done < list.length / 2)) return;
    if (done === list.length) this.list = null;
    else list.splice(0, done);
    this.first += done;
    this.done = 0;
  }
}
