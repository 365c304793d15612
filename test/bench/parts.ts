// What the parts can do alone here: the limits that the cluster is compared with.
import { Redis } from "ioredis";
import { type Connection, createConnection } from "mysql2";
import type { Meter } from "./meter.ts";

/** Rows of one INSERT, and connections that insert. */
export const INSERT_ROWS = 500;
export const INSERT_CONNECTIONS = 2;
/** Hints of one publish, and publishes under way. */
export const HINTS = 100;
const PUBLISHES = 4;

const CONVERSATIONS = 25;
/** As the table of messages: its rows are what the server writes. */
const TABLE = "message";
const COLUMNS = "conversation, seq, kind, sender, device, mid, ts, body, size";

type Row = (number | string)[];

function connectTo(url: string): Promise<Connection> {
  const { promise, resolve, reject } = Promise.withResolvers<Connection>();
  const connection = createConnection(url);
  connection.connect((error) => (error ? reject(error) : resolve(connection)));
  return promise;
}

function query(connection: Connection, sql: string, values: unknown[] = []): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  connection.query(sql, values, (error) => (error ? reject(error) : resolve()));
  return promise;
}

let lastConversation = 0;

/** The next rows of a connection's conversations. */
function rowsOf(textBytes: number): (count: number) => Row[] {
  const first = lastConversation + 1;
  lastConversation += CONVERSATIONS;
  const text = "x".repeat(textBytes);
  let made = 0;
  return (count) =>
    Array.from({ length: count }, () => {
      const conversation = first + (made % CONVERSATIONS);
      const seq = Math.floor(made++ / CONVERSATIONS) + 1;
      return [conversation, seq, 1004, conversation, conversation, `1-${made}`, Date.now(), text, textBytes];
    });
}

/** Rows a second that INSERTs of `count` rows store, each committed alone, through mysql2. `url`: a database of messages. */
export async function insertRate(
  url: string,
  connections: number,
  count: number,
  textBytes: number,
  seconds: number,
  meter: Meter,
): Promise<number> {
  const all = await Promise.all(Array.from({ length: connections }, () => connectTo(url)));
  let stored = 0;
  meter.start();
  const startedAt = performance.now();
  const work = async (connection: Connection) => {
    const next = rowsOf(textBytes);
    while (performance.now() - startedAt < seconds * 1000) {
      await query(connection, `INSERT INTO ${TABLE} (${COLUMNS}) VALUES ?`, [next(count)]);
      stored += count;
    }
  };
  await Promise.all(all.map(work));
  const took = (performance.now() - startedAt) / 1000;
  meter.stop();
  for (const connection of all) connection.destroy();
  return stored / took;
}

/** Hints a second that arrive at a subscriber, published in hundreds through ioredis. */
export async function publishRate(url: string, textBytes: number, seconds: number, meter: Meter): Promise<number> {
  const [publisher, subscriber] = [new Redis(url), new Redis(url)];
  const hint = {
    kind: "hint",
    hint: {
      row: [123, 4567, 1004, 1001, 1001, "1-123456", Date.now(), "x".repeat(textBytes)],
      conv: "u:1001-1002",
      name: "bench1-10-0",
      memberVersion: 0,
    },
  };
  const text = JSON.stringify(Array.from({ length: HINTS }, () => hint));
  let heard = 0;
  subscriber.on("message", () => {
    heard += HINTS;
  });
  await subscriber.subscribe("bench");
  meter.start();
  const startedAt = performance.now();
  const work = async () => {
    while (performance.now() - startedAt < seconds * 1000) await publisher.publish("bench", text);
  };
  await Promise.all(Array.from({ length: PUBLISHES }, work));
  const took = (performance.now() - startedAt) / 1000;
  const rate = heard / took;
  meter.stop();
  publisher.disconnect();
  subscriber.disconnect();
  return rate;
}
