// Opens stores of several instances on one MariaDB, and writes to them, for the tests beside this file.
import type { Shared } from "../../src/db/db.ts";
import { type MysqlOptions, openMysqlStore } from "../../src/db/mysql.ts";
import type { Drafts } from "../../src/model/message.ts";
import { writers } from "../../src/model/plan.ts";
import { operations, type Store } from "../../src/model/store.ts";
import { MsgId } from "../../src/protocol.ts";

export type SharedStore = Store & Shared;

/** What the stores have logged. */
export const lines: string[] = [];

const log = { warn: (line: string) => lines.push(line), info: (line: string) => lines.push(line) };

export const openShared = (url: string, options: Partial<MysqlOptions> = {}): Promise<SharedStore> =>
  openMysqlStore({ url, address: "", log, ...options }, operations, writers);

/** The same database through another port. */
export function through(url: string, port: number): string {
  const other = new URL(url);
  other.port = String(port);
  return other.href;
}

export const messages = (list: { conv: string; sender: number; text: string; mid?: string }[]): Drafts => ({
  convs: list.map(({ conv }) => conv),
  kinds: list.map(({ conv }) => (conv.startsWith("g") ? MsgId.groupChat : MsgId.chat)),
  senders: list.map(({ sender }) => sender),
  devices: list.map(() => 0),
  mids: list.map(({ mid }) => mid ?? null),
  times: list.map(() => 1_000),
  texts: list.map(({ text }) => text),
});
