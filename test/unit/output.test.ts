import { expect, test } from "bun:test";
import { Decoder, type Framing } from "../../src/net/codec.ts";
import { Output } from "../../src/net/output.ts";

/** A peer whose kernel takes at most `room` bytes a write. */
class Kernel {
  room = Number.POSITIVE_INFINITY;
  private taken: Buffer[] = [];
  readonly accepted: number[] = [];
  readonly output = new Output({
    write: (bytes, offset, length) => {
      const some = Buffer.from(bytes.subarray(offset, offset + Math.min(length, this.room)));
      this.taken.push(some);
      return some.length;
    },
  });

  constructor(framing: Framing) {
    this.output.framing = framing;
  }

  /** Each with a mark of its own, which is to hear of its own number alone. */
  add(...texts: string[]): void {
    for (const [i, text] of texts.entries()) {
      const mark = { accepted: (seq: number) => this.accepted.push(seq === i ? i : Number.NaN) };
      this.output.add(text, mark, i);
    }
  }

  send(...texts: string[]): void {
    this.add(...texts);
    while (!this.output.flush());
  }

  get bytes(): Buffer {
    return Buffer.concat(this.taken);
  }
}

const texts = (...numbers: number[]): string[] =>
  numbers.map((i) => JSON.stringify({ msgId: 1008, msg: "ö".repeat(i) }));
const inLines = (all: string[]): string => all.map((text) => `${text}\n`).join("");

test("what several are sent is the same bytes, whatever goes before, between and behind", () => {
  const [all, ahead, between, fewer, more] = [
    texts(1, 2, 3),
    texts(9, 1, 2, 3),
    texts(1, 9, 3),
    texts(1, 2),
    texts(1, 2, 3, 4),
  ];
  for (const each of [all, all, ahead, all, between, all, fewer, all, more]) {
    const kernel = new Kernel("lf");
    kernel.send(...each);
    expect(kernel.bytes.toString()).toBe(inLines(each));
    expect(kernel.accepted).toEqual([...each.keys()]);
  }
});

test("each framing gets its own bytes of the same texts", () => {
  const all = texts(1, 2, 3);
  for (const framing of ["lf", "length", "nul", "lf"] as const) {
    const kernel = new Kernel(framing);
    kernel.send(...all);
    const end = framing === "nul" ? "\0" : "\n";
    if (framing !== "length") expect(kernel.bytes.toString()).toBe(all.map((text) => text + end).join(""));
    else {
      const decoder = new Decoder(1024);
      decoder.push(kernel.bytes);
      for (const text of all) expect(decoder.next()).toEqual(JSON.parse(text));
    }
  }
});

test("a slow peer's bytes are its own, though others are sent in between", () => {
  const all = texts(100, 200, 300);
  const slow = new Kernel("lf");
  slow.room = 7;
  slow.output.add(all[0]!, null, 0);
  slow.output.add(all[1]!, null, 1);
  slow.output.flush();
  const other = new Kernel("lf");
  other.send(...texts(5, 6));
  expect(other.bytes.toString()).toBe(inLines(texts(5, 6)));
  slow.send(all[2]!);
  expect(slow.bytes.toString()).toBe(inLines(all));
});

test("texts longer than the shared buffer, between shorter ones", () => {
  const all = [texts(1)[0]!, JSON.stringify({ msgId: 1013, text: "x".repeat(300_000) }), texts(2)[0]!];
  for (let i = 0; i < 3; i++) {
    const kernel = new Kernel("lf");
    kernel.send(...all);
    expect(kernel.bytes.toString()).toBe(inLines(all));
    expect(kernel.accepted).toEqual([0, 1, 2]);
  }
});

test("a mark is told once of what is accepted together, and never of what is not", () => {
  const kernel = new Kernel("lf");
  const accepted: number[] = [];
  const mark = { accepted: (seq: number) => accepted.push(seq) };
  const all = texts(10, 10, 10, 10);
  kernel.room = 2 * Buffer.byteLength(`${all[0]}\n`) + 1;
  for (const [i, text] of all.entries()) kernel.output.add(text, mark, i);
  kernel.output.flush();
  expect(accepted).toEqual([1]);
  kernel.output.flush();
  expect(accepted.at(-1)).toBe(3);
  expect(kernel.bytes.toString()).toBe(inLines(all));
});

test("the mark of what was written last is told when that is accepted, whatever follows", () => {
  const kernel = new Kernel("lf");
  const [answer, push] = texts(10, 1_000) as [string, string];
  let told = 0;
  kernel.output.add(answer, null, 0);
  kernel.output.markLast({ accepted: () => told++ });
  kernel.output.add(push, null, 0);
  kernel.room = Buffer.byteLength(answer);
  kernel.output.flush();
  expect(told).toBe(0);
  kernel.room = 1;
  kernel.output.flush();
  expect([told, kernel.output.pendingBytes > 0]).toEqual([1, true]);
});

test("who waits for the output hears when the kernel has it all, or that it never will", async () => {
  const kernel = new Kernel("lf");
  expect(await kernel.output.whenFlushed()).toBe(true);
  const heard: [string, boolean][] = [];
  const wait = (who: string) => kernel.output.whenFlushed().then((accepted) => heard.push([who, accepted]));
  kernel.output.add(texts(10)[0]!, null, 0);
  const [one, other] = [wait("one"), wait("other")];
  kernel.room = 7;
  kernel.output.flush();
  await Promise.resolve();
  expect(heard).toEqual([]);
  while (!kernel.output.flush());
  await Promise.all([one, other]);
  kernel.output.add(texts(10)[0]!, null, 0);
  const third = wait("third");
  kernel.output.flush();
  kernel.output.discard();
  await third;
  expect(heard).toEqual([
    ["one", true],
    ["other", true],
    ["third", false],
  ]);
});

test("more than the shared buffer holds, at a slow kernel's pace: each message once, in order, and nothing left over", () => {
  const all = Array.from({ length: 60 }, (_, i) => JSON.stringify({ msgId: 1008, msg: `${i} ${"x".repeat(20_000)}` }));
  for (const room of [70_001, 200_000, 300_000]) {
    const kernel = new Kernel("lf");
    kernel.room = room;
    kernel.add(...all);
    while (!kernel.output.flush()) {
      const left = inLines(all).length - kernel.bytes.length;
      expect(kernel.output.pendingBytes).toBeWithin(left - all.length, left + 1);
    }
    expect(kernel.bytes.toString() === inLines(all)).toBe(true);
    expect(kernel.accepted).toEqual([...all.keys()]);
    expect(kernel.output.pendingBytes).toBe(0);
  }
});
