// PROTOCOL.md says what the server does: its examples are played in order against a real server, and its tables of
// requests, error numbers, fields and limits are tried on it.
import { expect, test } from "bun:test";
import { join, resolve } from "node:path";
import * as protocol from "../../src/protocol.ts";
import { Errno, type Json, type JsonObject, MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, startServer, temporaryFolder } from "../harness.ts";
import { login, register, Wire } from "../wire.ts";
import { type Block, blocksOf, isText, isTree, Player } from "./document-player.ts";

const DOCUMENT = await Bun.file(resolve(import.meta.dir, "../../PROTOCOL.md")).text();
const blocks = blocksOf(DOCUMENT);
const exampleLines = blocks
  .filter(({ kind }) => ["chat", "console", "hex"].includes(kind))
  .flatMap((block: Block) => block.lines.map(({ text }) => text))
  .filter((text) => text.includes('{"msgId"'));

/** The messages in lines; what is not JSON is an example of that. */
function messagesIn(lines: string[]): JsonObject[] {
  const messages: JsonObject[] = [];
  for (const line of lines)
    try {
      messages.push(JSON.parse(line.slice(line.indexOf("{"))));
    } catch {}
  return messages;
}

test("the examples, played in order", async () => {
  const player = new Player();
  await player.start();
  for (const block of blocks) await player.play(block);
  await player.stop();
  // No example stands where it is not played.
  expect(exampleLines.length).toBe(DOCUMENT.split("\n").filter((line) => line.includes('{"msgId"')).length);
}, 60_000);

/** The tables whose first column has this heading: their rows' cells. */
function tableRows(text: string, heading: string): string[][] {
  const tables = text.split(/\n\n+/).filter((part) => part.startsWith(`| ${heading} |`));
  const rows = tables.flatMap((table) => table.trim().split("\n").slice(2));
  return rows.map((row) => row.split("|").map((cell) => cell.trim())).map((cells) => cells.slice(1, -1));
}

const words = (text: string): string[] => [...text.matchAll(/`(\w+)`/g)].map((match) => match[1]!);

test("every field in the examples is explained, and every field in the tables is in an example", () => {
  const shown = new Set<string>();
  const collect = (value: Json | undefined): void => {
    if (isText(value) && value.startsWith("{")) collect(JSON.parse(value));
    if (!isTree(value)) return;
    for (const [field, inner] of Object.entries(value)) {
      if (!Array.isArray(value)) shown.add(field);
      collect(inner);
    }
  };
  for (const message of messagesIn(exampleLines)) collect(message);
  const explained = new Set(words(DOCUMENT));
  expect([...shown].filter((field) => !explained.has(field))).toEqual([]);
  const named = ["field", "answer", "push"].flatMap((heading) => tableRows(DOCUMENT, heading).map(([field]) => field!));
  named.push(...tableRows(DOCUMENT, "shape").map(([, fields]) => fields!));
  expect(named.length).toBeGreaterThan(40);
  expect(named.flatMap(words).filter((field) => !shown.has(field))).toEqual([]);
});

test("the error numbers are the program's", () => {
  const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
  const table = tableRows(DOCUMENT, "errno").map(([errno, name]) => [name, Number(errno)]);
  expect(table).toEqual(Object.entries(Errno).map(([name, errno]) => [snake(name), errno]));
});

interface Request {
  msgId: number;
  fields: { name: string; optional: boolean; type: string; limit: string }[];
  examples: JsonObject[];
}

const chapter = DOCUMENT.split("\n## 3. ")[1]!.split("\n## ")[0]!;
const sent = messagesIn(exampleLines.filter((line) => line.includes("→")));
const requests: Request[] = [...chapter.matchAll(/\n### (\d{4}) (.*?)(?=\n### |$)/gs)].map(([, msgId, section]) => ({
  msgId: Number(msgId),
  fields: tableRows(section!, "field").map(([name, type, limit]) => ({
    name: words(name!)[0]!,
    optional: name!.endsWith("?"),
    type: type!,
    limit: limit!,
  })),
  examples: sent.filter((message) => message.msgId === Number(msgId)),
}));

test("the requests with a section are those that there are", async () => {
  const server = await startServer(join(temporaryFolder(), "chat.db"));
  const wire = await Wire.connect(server.port);
  const known: number[] = [];
  for (let msgId = 990; msgId < 1060; msgId++)
    if ((await wire.ask({ msgId })).errno !== Errno.unknownMessage) known.push(msgId);
  expect(requests.map(({ msgId }) => msgId)).toEqual(known);
  const reserved = tableRows(chapter, "msgId").map(([msgId]) => Number(msgId));
  const free = Array.from({ length: 17 }, (_, i) => 1011 + i).filter((msgId) => !known.includes(msgId));
  expect(reserved).toEqual(free);
  wire.close();
  await server.stop();
});

/** Values of a field that its type and limit allow, and that they do not. */
function samples(type: string, limit: string): { good: Json[]; bad: Json[] } {
  const numbers = [...limit.matchAll(/\d[\d,]*/g)].map(([digits]) => Number(digits.replaceAll(",", "")));
  const [min, max] = numbers.length === 2 ? (numbers as [number, number]) : [0, numbers[0] ?? 0];
  switch (type) {
    case "text": {
      if (numbers.length === 0) return { good: [""], bad: [5, ["x"]] };
      // A character outside of the BMP is one character, of two units and four bytes.
      const good = limit.includes("bytes") ? ["é".repeat(max / 2)] : ["𝄞".repeat(max)];
      const bad = limit.includes("bytes") ? ["é".repeat(max / 2 + 1)] : ["𝄞".repeat(max + 1)];
      if (min > 0) bad.push("x".repeat(min - 1));
      return { good: [...good, "x".repeat(min)], bad: [...bad, 5, ["x"]] };
    }
    case "integer": {
      const above = limit.startsWith("≥") ? numbers[0]! - 1 : min - 1;
      return { good: numbers, bad: [above, 1.5, "1", ...(numbers.length === 2 ? [max + 1] : [])] };
    }
    case "id":
      return { good: [], bad: [0, -1, 1.5, "1", 2 ** 53] };
    case "flag":
      return { good: [], bad: [1, "true"] };
    case "conv":
      return { good: [], bad: [1, "u:2-1", "u:1", "x:1", "g:0", "g:1 "] };
    default:
      throw new Error(`unknown type ${type}`);
  }
}

test("types and limits of the requests' fields", async () => {
  const server = await startServer(join(temporaryFolder(), "chat.db"));
  await register(server.port);
  // Those of the examples that repeat their sender's id say 2.
  const user = await register(server.port);
  let probes = 0;
  /** Whether the server calls this field wrong, on a connection of its own. */
  const refuses = async (message: JsonObject, field: string): Promise<boolean> => {
    const before = message.msgId === MsgId.register || message.msgId === MsgId.login;
    const device = `probe ${++probes}`;
    const wire = before ? await Wire.connect(server.port) : await login(server.port, user, { device });
    const answer = await wire.ask({ ...message, reqId: 1 });
    wire.close();
    return answer.errno === Errno.invalidField && answer.field === field;
  };
  const wrong: string[] = [];
  for (const { msgId, fields, examples } of requests)
    for (const { name, optional, type, limit } of fields) {
      const base = examples.find((example) => example[name] !== undefined) ?? { msgId };
      const { good, bad } = samples(type, limit);
      const without = examples.find((example) => example[name] === undefined) ?? { ...base, [name]: undefined };
      const cases: [JsonObject, boolean][] = [
        ...good.map((value): [JsonObject, boolean] => [{ ...base, [name]: value }, false]),
        ...bad.map((value): [JsonObject, boolean] => [{ ...base, [name]: value }, true]),
        [{ ...(optional ? without : base), [name]: null }, !optional],
      ];
      for (const [message, refused] of cases)
        if ((await refuses(message, name)) !== refused)
          wrong.push(`${JSON.stringify(message).slice(0, 300)} is ${refused ? "taken" : "refused"}`);
    }
  expect(wrong).toEqual([]);
  expect(probes).toBeGreaterThan(100);
  await server.stop();
}, 60_000);

test("the limits are the program's", async () => {
  const help = await new Response(Bun.spawn([CHAT_SERVER, "--help"]).stdout).text();
  const defaults = new Map([...help.matchAll(/--([\w-]+) .*\(default (\d+)/g)].map(([, flag, value]) => [flag, value]));
  const rows = tableRows(DOCUMENT, "limit").map(([, value, flag]) => [flag!, value!.replaceAll(",", "")] as const);
  for (const [flag, value] of rows)
    if (flag !== "") expect(`${flag} ${Number.parseInt(value, 10)}`).toBe(`${flag} ${defaults.get(flag.slice(3, -1))}`);
  const fixed = rows.filter(([flag]) => flag === "").map(([, value]) => Number.parseInt(value, 10));
  const { MAX_FRAME_BYTES, MAX_PROTOCOL_ERRORS, GROUP_MEMBERS_SHOWN, PAGE_LIMIT, LEGACY_OFFLINE_MESSAGES } = protocol;
  for (const limit of [MAX_FRAME_BYTES, MAX_PROTOCOL_ERRORS, GROUP_MEMBERS_SHOWN, PAGE_LIMIT, LEGACY_OFFLINE_MESSAGES])
    expect(fixed).toContain(limit);
  for (const [, flag] of DOCUMENT.matchAll(/`--([\w-]+)`/g)) expect(help).toMatch(new RegExp(`--${flag}[ [=]`));
});
