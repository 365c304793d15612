// The offline messages of an import: each becomes one row of its conversation's log, in the order in which they were
// stored, and is delivered to those it was kept for: the cursors of the others are beyond it.
import { single } from "../db/series.ts";
import { MsgId } from "../protocol.ts";
import { isId } from "./accounts.ts";
import type { Import } from "./import.ts";
import { grouped, Progress } from "./progress.ts";
import type { StoreBuilder } from "./store-builder.ts";

/** The contents of one offlinemessage row. */
interface Kept {
  kind: number;
  sender: number;
  /** Null: one-to-one. */
  group: number | null;
  ts: number;
  body: string;
}

const ROWS_AT_ONCE = 1_000;
const STAGED = ["n", "receiver", "kind", "sender", "ts", "body", "conv_kind", "lo", "hi", "name"];

/** A group message is stored once per offline member. Equal ones are matched by count: each member's k-th is one. */
const PLACE = [
  `CREATE TABLE scratch.heard AS
     SELECT n, receiver, conv_kind, lo, hi, name, row_number() OVER (PARTITION BY name, receiver ORDER BY n) AS copy
     FROM scratch.staged`,
  "CREATE INDEX scratch.heard_name ON heard (name, copy)",
  `CREATE TABLE scratch.sent AS
     SELECT min(n) AS n, name, copy, conv_kind, lo, hi FROM scratch.heard GROUP BY name, copy`,
  `INSERT INTO conversation (kind, lo, hi)
     SELECT conv_kind, lo, hi FROM scratch.sent WHERE conv_kind = 0 GROUP BY lo, hi ORDER BY min(n)`,
  `CREATE TABLE scratch.placed AS
     SELECT c.id AS conversation, row_number() OVER (PARTITION BY c.id ORDER BY s.n) AS seq, s.n, s.name, s.copy
     FROM scratch.sent s JOIN conversation c ON c.kind = s.conv_kind AND c.lo = s.lo AND c.hi = s.hi`,
  "CREATE UNIQUE INDEX scratch.placed_seq ON placed (conversation, seq)",
  "CREATE UNIQUE INDEX scratch.placed_name ON placed (name, copy)",
  `CREATE TABLE scratch.head AS
     SELECT conversation, max(seq) AS seq FROM scratch.placed GROUP BY conversation`,
  `CREATE TABLE scratch.part AS
     SELECT m.conversation, m.user_id FROM member m JOIN scratch.head h ON h.conversation = m.conversation
     UNION SELECT c.id, c.lo FROM conversation c WHERE c.kind = 0 UNION SELECT c.id, c.hi FROM conversation c WHERE c.kind = 0`,
  "INSERT INTO device (user_id, name, boot) SELECT DISTINCT user_id, '', '' FROM scratch.part ORDER BY user_id",
  `CREATE TABLE scratch.missed AS
     SELECT p.conversation, h.receiver, min(p.seq) AS seq, count(*) AS rows
     FROM scratch.heard h JOIN scratch.placed p ON p.name = h.name AND p.copy = h.copy GROUP BY p.conversation, h.receiver`,
  "CREATE UNIQUE INDEX scratch.missed_by ON missed (conversation, receiver)",
  `INSERT INTO cursor (device, conversation, seq)
     SELECT d.id, p.conversation, ifnull(m.seq - 1, h.seq)
     FROM scratch.part p JOIN device d ON d.user_id = p.user_id JOIN scratch.head h ON h.conversation = p.conversation
     LEFT JOIN scratch.missed m ON m.conversation = p.conversation AND m.receiver = p.user_id
     WHERE ifnull(m.seq - 1, h.seq) > 0`,
];

const NEXT_ROWS = `SELECT p.conversation, p.seq, s.kind, s.sender, ifnull(d.id, 0) AS device, s.ts, s.body
  FROM scratch.placed p JOIN scratch.staged s ON s.n = p.n LEFT JOIN device d ON d.user_id = s.sender
  WHERE (p.conversation, p.seq) > (?, ?) ORDER BY p.conversation, p.seq LIMIT ${ROWS_AT_ONCE}`;

/** Rows from a receiver's first one on that were neither kept for them nor sent by them. */
const TWICE = `SELECT ifnull(sum((SELECT count(*) FROM scratch.placed p JOIN scratch.staged s ON s.n = p.n
    WHERE p.conversation = m.conversation AND p.seq >= m.seq AND s.sender <> m.receiver) - m.rows), 0)
  FROM scratch.missed m`;

/** `groups`: their conversation ids. */
export async function importOffline(work: Import, groups: Map<number, number>): Promise<void> {
  const { source, builder, notes } = work;
  if (!source.has("offlinemessage")) return notes.add("tables skipped, because they are missing", "offlinemessage");
  await stage(work, groups);
  await builder.transact(async () => {
    for (const sql of PLACE) builder.run(sql);
  });
  const progress = new Progress("messages", builder.count("SELECT count(*) FROM scratch.placed"));
  for (let at = [0, 0]; ; ) {
    const rows = await builder.tx.all<Record<string, number> & { body: string }>(NEXT_ROWS, at);
    if (rows.length === 0) break;
    at = [rows.at(-1)!.conversation!, rows.at(-1)!.seq!];
    await builder.append(
      rows.map((r) => single([r.conversation!, r.seq!, r.kind!, r.sender!, r.device!, null, r.ts!, r.body])),
    );
    progress.advance(rows.length);
  }
  const kept = builder.count("SELECT count(*) FROM scratch.staged");
  const made = builder.count("SELECT count(*) FROM scratch.placed");
  progress.end(`${grouped(made)} imported, of ${grouped(kept)} offline rows`);
  const twice = builder.count(TWICE);
  if (twice > 0)
    notes.add(
      "group messages are delivered once more to members who came and went between them",
      `${grouped(twice)} deliveries`,
    );
}

/** Reads the table's rows into a scratch table, where they can be counted and ordered. */
async function stage({ source, builder, notes, users }: Import, groups: Map<number, number>): Promise<void> {
  builder.run(`CREATE TABLE scratch.staged (n INTEGER PRIMARY KEY, receiver INTEGER, kind INTEGER, sender INTEGER, ts INTEGER,
    body TEXT, conv_kind INTEGER, lo INTEGER, hi INTEGER, name TEXT)`);
  const progress = new Progress("offline messages read", await source.count("offlinemessage"));
  const now = Date.now();
  let n = 0;
  await builder.fill(
    source.rows("offlinemessage"),
    ([user, text]) => {
      progress.advance(1);
      const receiver = Number(user);
      const leftOut = (why: string) => {
        notes.add(`offline messages left out, ${why}`, `for user ${user}`);
        return null;
      };
      const kept = parseKept(String(text ?? ""), now);
      if (kept === null) return leftOut("because they are malformed");
      const { kind, sender, group, ts, body } = kept;
      if (!users.has(receiver) || !users.has(sender)) return leftOut("because there is no such user");
      if (group !== null && !isMember(builder, groups.get(group), receiver))
        return leftOut("because the user is not in the group");
      const conversation = group === null ? [0, Math.min(sender, receiver), Math.max(sender, receiver)] : [1, group, 0];
      const name = new Bun.CryptoHasher("sha256").update(JSON.stringify([conversation, kept])).digest("base64");
      return [++n, receiver, kind, sender, ts, body, ...conversation, name];
    },
    (rows) => builder.tx.insert("scratch.staged", STAGED, rows),
  );
}

const isMember = (builder: StoreBuilder, conversation: number | undefined, user: number): boolean =>
  conversation !== undefined &&
  builder.tx.prepare("SELECT 1 FROM member WHERE conversation = ? AND user_id = ?").get(conversation, user) !== null;

/** Parses a kept 1004, 1005 or 1008; null where it is none. `now` is the time of a message without one. */
export function parseKept(text: string, now: number): Kept | null {
  let message: Record<string, unknown>;
  try {
    message = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof message !== "object" || message === null) return null;
  const kind = message.msgId ?? message.msgid;
  const sender = message.fromid ?? message.id;
  const group = kind === MsgId.groupChat ? message.groupid : null;
  if (!isId(sender) || (group !== null && !isId(group))) return null;
  const msg = message.msg ?? (kind === MsgId.addFriend ? "" : null);
  if (typeof msg !== "string") return null;
  const said = msg.toWellFormed();
  const ts = parseTime(message.time) ?? now;
  if (kind === MsgId.addFriend) return { kind, sender, group: null, ts, body: JSON.stringify({ msg: said }) };
  if (kind !== MsgId.chat && kind !== MsgId.groupChat) return null;
  return { kind, sender, group: group as number | null, ts, body: said };
}

/** Parses `YYYY-MM-DD HH:MM:SS` in this machine's time zone; null for everything else. */
function parseTime(time: unknown): number | null {
  const match = /^(\d{4})-(\d\d?)-(\d\d?) (\d\d?):(\d\d?):(\d\d?)$/.exec(String(time).trim());
  if (match === null) return null;
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const ts = new Date(year, month - 1, day, hour, minute, second).getTime();
  return Number.isFinite(ts) && ts >= 0 ? ts : null;
}
