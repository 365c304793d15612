// 100,000 damaged streams through the codec: it never throws, gives the same however they are cut, and finds back.
import { expect, test } from "bun:test";
import { byteByByte, bytes, cutAt, decode, details, frame, type Result, words } from "./streams.ts";

const MUTATIONS = 100_000;
/** Low, so that streams are often over it. */
const MAX_FRAME_BYTES = 96;
/** SEED=… repeats a run that failed. */
const SEED = Number(process.env.SEED ?? crypto.getRandomValues(new Uint32Array(1))[0]) >>> 0;

/** mulberry32: whole numbers from 0 to below `n`. */
function randomSource(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * n);
  };
}

type Random = ReturnType<typeof randomSource>;
const pick = <T>(random: Random, list: readonly T[]): T => list[random(list.length)]!;

const VALUES = [
  '"s":"hello"',
  '"s":"é€😀"',
  '"s":"\\ud83d\\ude00"',
  '"s":"}{][\\\\\\""',
  '"a":[[],{"b":[1]}]',
  '"reqId":"r"',
  '"n": null',
];
const SEPARATORS = ["\n", "\n", "\0", "\0", "\r\n", "", " ", "\t\n"];
/** Bytes that mean something to the codec, and the halves of what does. */
const TELLING = [
  0, 0, 1, 4, 9, 10, 10, 13, 32, 34, 34, 92, 92, 91, 93, 123, 125, 125, 0xef, 0xbb, 0xbf, 0xc3, 0xed, 0xff,
];
const BOM = [0xef, 0xbb, 0xbf];
const HEALTHY = '{"msgId":77}';

interface Stream {
  bytes: Buffer;
  text: boolean;
  /** Behind which byte each message ends. */
  ends: number[];
}

function randomStream(random: Random): Stream {
  const text = random(3) > 0;
  const parts: Buffer[] = text && random(8) === 0 ? [bytes(BOM)] : [];
  const ends: number[] = [];
  for (let i = random(5); i >= 0; i--) {
    const json = `{"msgId":${i},${pick(random, VALUES)}${random(4) === 0 ? `,${pick(random, VALUES)}` : ""}}`;
    parts.push(text ? bytes(json) : frame(json));
    ends.push(bytes(...parts).length);
    if (text) parts.push(bytes(pick(random, SEPARATORS)));
  }
  return { bytes: bytes(...parts), text, ends };
}

/** The stream with some bytes changed, added, removed or repeated, and the offset of the first that is another. */
function mutate(random: Random, stream: Buffer): [Buffer, number] {
  let first = stream.length;
  for (let i = random(3); i >= 0; i--) {
    const at = random(stream.length);
    const end = Math.min(stream.length, at + 1 + random(pick(random, [2, 8, 120])));
    first = Math.min(first, at);
    const inserted = [
      () => [random(256)],
      () => [pick(random, TELLING)],
      () =>
        Array.from({ length: random(MAX_FRAME_BYTES + 20) }, () =>
          pick(random, [32, 97, 97, 97, pick(random, TELLING)]),
        ),
      () => [...stream.subarray(at, end), ...stream.subarray(at, end)],
      () => [],
    ];
    const kept = random(3) === 0 ? at : end;
    stream = bytes(stream.subarray(0, at), pick(random, inserted)(), stream.subarray(kept));
    if (stream.length === 0) return [stream, 0];
  }
  return [stream, first];
}

function randomChunks(random: Random, stream: Buffer): Buffer[] {
  if (random(8) === 0) return byteByByte(stream);
  const offsets = new Set(Array.from({ length: random(6) }, () => 1 + random(Math.max(1, stream.length - 1))));
  return cutAt(
    stream,
    [...offsets].filter((offset) => offset < stream.length).sort((a, b) => a - b),
  );
}

/** What is wrong with the decoding of `stream`, which is `original` up to byte `first`; "" where nothing is. */
function problemOf(random: Random, original: Stream, first: number, stream: Buffer, chunks: Buffer[]): string {
  const whole = decode([stream], MAX_FRAME_BYTES);
  count(whole);
  if (details(decode(chunks, MAX_FRAME_BYTES)) !== details(whole)) return "chunks differ from the whole";
  if (details(decode(chunks, MAX_FRAME_BYTES, () => random(2) === 0)) !== details(whole))
    return "chunks differ from the whole where the first object was not waited for";
  const untouched = original.ends.filter((end) => end <= first).length;
  if (words(whole.slice(0, untouched)) !== words(decode([original.bytes], MAX_FRAME_BYTES).slice(0, untouched)))
    return "what came before the damage was not decoded";
  const last = words(whole.slice(-1));
  if (stream[0] !== 0 && last !== "77" && last !== "!15") return "the healthy message at the end was not decoded";
  return "";
}

/** How many streams ended in which way: they must be damaged, and not beyond recognition. */
const seen = { error18: 0, error15: 0, recovered: 0, whole: 0 };

function count(results: Result[]): void {
  const all = words(results);
  const has18 = all.includes("!18");
  if (has18) seen.error18++;
  if (all.includes("!15")) seen.error15++;
  else if (has18 && all.endsWith("77")) seen.recovered++;
  else if (!has18) seen.whole++;
}

test("damaged streams give the same however they are cut, and what follows is found again", () => {
  const random = randomSource(SEED);
  for (let i = 0; i < MUTATIONS; i++) {
    const original = randomStream(random);
    let [stream, first] = mutate(random, original.bytes);
    // In text, LF or NUL ends whatever is unfinished, and what follows is healthy.
    if (stream[0] !== 0) stream = bytes(stream, "\n\0", HEALTHY, "\n");
    const chunks = randomChunks(random, stream);
    let problem: string;
    try {
      problem = problemOf(random, original, first, stream, chunks);
    } catch (error) {
      problem = String((error as Error).stack);
    }
    if (problem === "") continue;
    const cuts = chunks.map((chunk) => chunk.length).join(" ");
    throw new Error(`SEED=${SEED}, stream ${i}: ${problem}\n${JSON.stringify(stream.toString("latin1"))}\ncut ${cuts}`);
  }
  for (const times of Object.values(seen)) expect(times).toBeGreaterThan(MUTATIONS / 50);
}, 60_000);

test("a string of any bytes is a message where they are UTF-8, and an error where they are not", () => {
  const random = randomSource(SEED);
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const times = { valid: 0, invalid: 0 };
  for (let i = 0; i < 50_000; i++) {
    const any = () => pick(random, [97, 0xc3, 0xe2, 0xef, 0xf0, 0xf4, 0x80 + random(64), 0x80 + random(128)]);
    const string = Uint8Array.from({ length: 1 + random(4) }, any);
    let kind: "valid" | "invalid" = "valid";
    try {
      strict.decode(string);
    } catch {
      kind = "invalid";
    }
    times[kind]++;
    const results = decode([bytes('{"msgId":1,"s":"', string, '"}\n')], MAX_FRAME_BYTES);
    if (words(results) !== (kind === "valid" ? "1" : "!18")) throw new Error(`SEED=${SEED}: ${string} is ${kind}`);
  }
  for (const count of Object.values(times)) expect(count).toBeGreaterThan(500);
}, 30_000);
