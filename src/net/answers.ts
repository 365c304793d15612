// Answers leave in the order of their requests, whenever each of them is ready.
export interface AnswerSink {
  writeAnswer(text: string): void;
}

export class Answers {
  /** By slot, from `first` on; null while the request is under way, "" where it gets no answer. No list: none waits. */
  private texts: (string | null)[] | null = null;
  private first = 0;

  /** Requests that are not answered, or whose answers wait for earlier ones. */
  get size(): number {
    return this.texts?.length ?? 0;
  }

  /** The place of the next request's answer. */
  reserve(): number {
    if (this.texts === null) this.texts = [null];
    else this.texts.push(null);
    return this.first + this.texts.length - 1;
  }

  /** Fills a slot, and hands what can leave now to `sink`; false where nothing can. */
  fill(slot: number, text: string, sink: AnswerSink): boolean {
    const { texts } = this;
    if (texts === null) return false;
    texts[slot - this.first] = text;
    let done = 0;
    while (done < texts.length && texts[done] !== null) {
      const ready = texts[done++]!;
      if (ready !== "") sink.writeAnswer(ready);
    }
    if (done === 0) return false;
    if (done === texts.length) this.texts = null;
    else texts.splice(0, done);
    this.first += done;
    return true;
  }

  clear(): void {
    this.texts = null;
  }
}
