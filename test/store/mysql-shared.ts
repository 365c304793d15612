// Opens stores of several instances on one MariaDB, and writes to them, for the tests beside this file.
import type { Shared } from "../../src/db/db.ts";
import { type MysqlOptions, openMysqlStore } from "../../src/db/mysql.ts";
import { parseMysqlUrl } from "../../src/db/mysql-url.ts";
import { writers } from "../../src/model/plan.ts";
import { operations, type Store } from "../../src/model/store.ts";
import { MsgId } from "../../src/protocol.ts";
import { draftsOf } from "./series.ts";

export type SharedStore = Store & Shared;

/** What the stores have logged. */
export const lines: string[] = [];

const log = { warn: (line: string) => lines.push(line), info: (line: string) => lines.push(line) };

export const openShared = (url: string, options: Partial<MysqlOptions> = {}): Promise<SharedStore> =>
  openMysqlStore({ target: parseMysqlUrl(url)!, address: "", log, ...options }, operations, writers);

/** The same database through another port. */
export function through(url: string, port: number): string {
  const other = new URL(url);
  other.port = String(port);
  return other.href;
}

export const messages = (list: { conv: string; sender: number; text: string; mid?: string }[]) =>
  draftsOf(
    list.map(({ conv, sender, text, mid = null }) => {
      const kind = conv.startsWith("g") ? MsgId.groupChat : MsgId.chat;
      return { conv, kind, sender, device: 0, mid, time: 1_000, text };
    }),
  );
