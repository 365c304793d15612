// Plays the examples of PROTOCOL.md against a real server and compares what comes with what is shown.
import { expect } from "bun:test";
import { join } from "node:path";
import type { Framing } from "../../src/net/codec.ts";
import { encode } from "../../src/net/encode.ts";
import { type Json, type JsonObject, MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { Wire } from "../wire.ts";

const ANSWERS: number[] = [MsgId.registered, MsgId.loggedIn, MsgId.answer];

/** A fenced block: its info string, and its lines with their numbers in the document. */
export interface Block {
  kind: string;
  flags: string[];
  lines: { number: number; text: string }[];
}

export function blocksOf(document: string): Block[] {
  const blocks: Block[] = [];
  let open: Block | null = null;
  for (const [i, text] of document.split("\n").entries()) {
    const fence = /^```(\w*) ?(.*)$/.exec(text);
    if (fence === null) open?.lines.push({ number: i + 1, text });
    else if (open !== null) open = null;
    else {
      open = { kind: fence[1]!, flags: fence[2]!.split(" ").filter((flag) => flag !== ""), lines: [] };
      blocks.push(open);
    }
  }
  return blocks;
}

/** Fields whose values differ from run to run, and what they must look like. */
const VARYING: Record<string, (value: unknown) => boolean> = {
  time: (value) => typeof value === "string" && /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/.test(value),
  ts: (value) => Number.isSafeInteger(value) && (value as number) > 1_700_000_000_000,
  token: (value) => typeof value === "string" && value !== "" && value.length <= 512,
  retryAfterMs: (value) => Number.isSafeInteger(value) && (value as number) >= 100 && (value as number) <= 10_000,
};

/** How `real` differs from what is `shown`: the same fields, types and values, but for those that vary; null: not. */
function difference(shown: Json | undefined, real: Json | undefined, path = ""): string | null {
  const field = path.slice(path.lastIndexOf(".") + 1);
  if (VARYING[field] !== undefined)
    return VARYING[field](shown) && VARYING[field](real) ? null : `${path}: ${shown} or ${real} has not its form`;
  if (isText(shown) && isText(real) && shown.startsWith("{"))
    return difference(JSON.parse(shown), JSON.parse(real), path);
  if (!isTree(shown) || !isTree(real)) return shown === real ? null : `${path}: ${shown} is shown, ${real} came`;
  const [fields, others] = [Object.keys(shown).sort(), Object.keys(real).sort()];
  if (Array.isArray(shown) !== Array.isArray(real) || fields.join() !== others.join())
    return `${path}: fields ${fields} are shown, ${others} came`;
  for (const each of fields) {
    const found = difference((shown as JsonObject)[each], (real as JsonObject)[each], `${path}.${each}`);
    if (found !== null) return found;
  }
  return null;
}

export const isText = (value: unknown): value is string => typeof value === "string";
export const isTree = (value: unknown): value is JsonObject | Json[] => typeof value === "object" && value !== null;

function frame(text: string, framing: Framing): Buffer {
  const out = Buffer.alloc(Buffer.byteLength(text) * 3 + 4);
  return out.subarray(0, encode(text, framing, out, 0));
}

const isNetcat = ({ kind, lines }: Block): boolean => kind === "console" && lines[0]!.text.startsWith("$ nc ");

/** Plays the blocks on one database; a block with flags on a server of its own. */
export class Player {
  private readonly data = join(temporaryFolder(), "chat.db");
  private server!: RunningServer;
  private wires = new Map<string, Wire>();
  /** The real token for each one shown. */
  private readonly tokens = new Map<string, string>();
  /** When the message at a place of a conversation was stored, as shown and really: the same wherever it appears. */
  private readonly stored = [new Map<string, Json>(), new Map<string, Json>()];

  async start(flags = CHEAP_PASSWORDS, data = this.data): Promise<void> {
    this.server = await startServer(data, flags);
  }

  stop(): Promise<number | null> {
    return this.server.stop("SIGKILL");
  }

  async play(block: Block): Promise<void> {
    const { kind, flags, lines } = block;
    if (kind !== "chat" && kind !== "hex" && !isNetcat(block)) return;
    const started = flags.filter((flag) => flag !== "nul");
    if (kind === "chat" && started.length > 0) {
      const player = new Player();
      await player.start([...CHEAP_PASSWORDS, ...started]);
      await player.play({ ...block, flags: [] });
      await player.stop();
      return;
    }
    for (const { number, text } of lines) {
      try {
        if (kind === "hex") await this.playBytes(text);
        else if (kind === "console") await this.playConsole(text);
        else await this.playLine(text, flags.includes("nul") ? "nul" : "length");
      } catch (error) {
        throw new Error(`PROTOCOL.md, line ${number}: ${text}\n${(error as Error).message}`);
      }
    }
    // Netcat and the sender of bytes end with their block.
    for (const name of ["console", "hex"]) if (this.wires.has(name)) await this.close(name);
    for (const [name, wire] of this.wires) {
      await wire.settle();
      if (wire.received.length > 0)
        throw new Error(`PROTOCOL.md, line ${lines[0]!.number}: ${name} ← ${JSON.stringify(wire.received)} is missing`);
    }
  }

  private async playLine(text: string, framing: Framing): Promise<void> {
    if (text.startsWith("$ kill -TERM")) return this.restart();
    const parts = /^(\w+) ([→←]) (.*)$/.exec(text);
    if (parts === null) throw new Error("cannot be played");
    const [, name, direction, what] = parts as unknown as [string, string, string, string];
    const wire = await this.wire(name, framing);
    if (what === "(closes)") return this.close(name);
    if (what === "(closed)") return this.closed(name);
    if (direction === "←") this.compare(what, await this.next(wire, what));
    else wire.raw(frame(this.withRealTokens(what), framing));
  }

  private async playConsole(text: string): Promise<void> {
    const wire = await this.wire("console", "lf");
    if (text.startsWith("$")) return;
    if (ANSWERS.includes(JSON.parse(text).msgId)) this.compare(text, await this.next(wire, text));
    else wire.raw(`${text}\n`);
  }

  /** A line of a hex dump: direction, up to 16 bytes, and the same as text. Received bytes must be exactly these. */
  private async playBytes(text: string): Promise<void> {
    const wire = await this.wire("hex", "length");
    if (text === "← (closed)") return this.closed("hex");
    const bytes = Buffer.from(text.slice(2, 49).replaceAll(" ", ""), "hex");
    expect(text.slice(52)).toBe(bytes.toString("latin1").replace(/[^ -~]/g, "."));
    if (text.startsWith("→")) return wire.raw(bytes);
    await until(() => Buffer.concat(wire.bytes).length >= bytes.length, "these bytes");
    const received = Buffer.concat(wire.bytes);
    expect(received.subarray(0, bytes.length).toString("hex")).toBe(bytes.toString("hex"));
    wire.bytes = [received.subarray(bytes.length)];
    wire.received = [];
  }

  /** The next message. Presence is looked up before it is told, so other messages may overtake it. */
  private next(wire: Wire, shown: string): Promise<JsonObject> {
    const presence = JSON.parse(shown).msgId === MsgId.presence;
    return wire.next((message) => (message.msgId === MsgId.presence) === presence, shown);
  }

  private compare(shown: string, real: JsonObject): void {
    const message = JSON.parse(shown) as JsonObject;
    const found = difference(message, real);
    if (found !== null) throw new Error(`${found}\nreceived: ${JSON.stringify(real)}`);
    if (isText(message.token)) this.tokens.set(message.token, real.token as string);
    for (const [i, { conv, seq, ts }] of [message, real].entries()) {
      if (conv === undefined || ts === undefined) continue;
      const before = this.stored[i]!.get(`${conv} ${seq}`) ?? ts;
      if (before !== ts) throw new Error(`seq ${seq} of ${conv} had ts ${before}, now ${ts}`);
      this.stored[i]!.set(`${conv} ${seq}`, ts);
    }
  }

  private withRealTokens(text: string): string {
    const shown = /"token":"([^"]*)"/.exec(text)?.[1];
    if (shown === undefined) return text;
    const real = this.tokens.get(shown);
    if (real === undefined) throw new Error("this token was not given before");
    return text.replace(shown, real);
  }

  private async wire(name: string, framing: Framing): Promise<Wire> {
    const wire = this.wires.get(name) ?? (await Wire.connect(this.server.port, framing));
    this.wires.set(name, wire);
    return wire;
  }

  /** Ends a connection, and waits until the server has seen it. */
  private async close(name: string): Promise<void> {
    this.wires.get(name)!.halfClose();
    await this.closed(name);
  }

  private async closed(name: string): Promise<void> {
    const wire = this.wires.get(name)!;
    await until(() => wire.ended, `the server's end of ${name}`);
    expect(wire.received).toEqual([]);
    wire.close();
    this.wires.delete(name);
  }

  private async restart(): Promise<void> {
    expect(await this.server.stop("SIGTERM")).toBe(0);
    await this.start();
  }
}
