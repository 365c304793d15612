// Answers leave in the order of their requests, whenever each of them is ready.
import type { Outgoing } from "./encode.ts";

export interface AnswerSink {
  writeAnswer(message: Outgoing): void;
}

/** Those that have left are taken out of the list when there are so many, and half of it: moving the rest costs its length. */
const MANY_DONE = 64;

export class Answers {
  /** By slot, from `first` on; null while the request is under way, "" where it gets no answer. No list: none waits. */
  private list: (Outgoing | null)[] | null = null;
  private first = 0;
  /** How many at the list's beginning have left. */
  private done = 0;

  /** Requests that are not answered, or whose answers wait for earlier ones. */
  get size(): number {
    return this.list === null ? 0 : this.list.length - this.done;
  }

  /** The place of the next request's answer. */
  reserve(): number {
    if (this.list === null) this.list = [null];
    else this.list.push(null);
    return this.first + this.list.length - 1;
  }

  /** Fills a slot, and hands what can leave now to `sink`; false where nothing can. */
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
