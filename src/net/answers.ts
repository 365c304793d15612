// Answers leave in the order of their requests, whenever each of them is ready.
export interface AnswerSink {
  writeAnswer(text: string): void;
}

export class Answers {
  /** By slot, from `first` on; null while the request is under way, "" where it gets no answer. */
  private texts: (string | null)[] = [];
  private first = 0;

  /** Requests that are not answered, or whose answers wait for earlier ones. */
  get size(): number {
    return this.texts.length;
  }

  /** The place of the next request's answer. */
  reserve(): number {
    this.texts.push(null);
    return this.first + this.texts.length - 1;
  }

  /** Fills a slot, and hands what can leave now to `sink`; false where nothing can. */
  fill(slot: number, text: string, sink: AnswerSink): boolean {
    this.texts[slot - this.first] = text;
    let done = 0;
    while (done < this.texts.length && this.texts[done] !== null) {
      const ready = this.texts[done++]!;
      if (ready !== "") sink.writeAnswer(ready);
    }
    if (done === 0) return false;
    this.texts.splice(0, done);
    this.first += done;
    return true;
  }

  clear(): void {
    this.texts = [];
  }
}
