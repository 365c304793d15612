// What the parts can do alone here: the limits that the cluster is compared with.

import { Redis } from "ioredis";
import { type Connection, createConnection } from "mysql2";
import type { RunningCluster } from "../../cluster.ts";
import { databaseOf } from "../../services.ts";
import type { Arguments } from "../arguments.ts";
import { type Case, limit, type Sample } from "../case.ts";
import { Meter } from "../meter.ts";
import type { Build } from "../target.ts";

/** Rows of one INSERT, and connections that insert. */
const INSERT_ROWS = 500;
const INSERT_CONNECTIONS = 2;
/** Hints of one publish, and publishes under way. */
const HINTS = 100;
const PUBLISHES = 4;

const CONVERSATIONS = 25;
/** A database of its own. */
const PARTS = "chat_parts";
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
async function insertRate(
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
async function publishRate(url: string, textBytes: number, seconds: number, meter: Meter): Promise<number> {
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

/** `servicesOf`: MariaDB and Redis, with an instance's tables in the one. */
export function partsOf(
  { textBytes, seconds }: Arguments,
  servicesOf: (build: Build) => Promise<RunningCluster>,
): Case[] {
  const inserts = (connections: number, rows: number) =>
    limit(`INSERTs of ${rows} rows, ${connections} connections: rows`, async (build) => {
      const { mariadb, url } = await servicesOf(build);
      const from = databaseOf(url);
      await mariadb.admin(`CREATE DATABASE IF NOT EXISTS ${PARTS}`);
      await mariadb.admin(`DROP TABLE IF EXISTS ${PARTS}.message`);
      await mariadb.admin(`CREATE TABLE ${PARTS}.message LIKE ${from}.message`);
      const meter = new Meter([mariadb.pid, process.pid]);
      const rate = await insertRate(url.replace(/[^/]+$/, PARTS), connections, rows, textBytes, seconds, meter);
      return sampleOf("MariaDB", rate, meter);
    });
  return [
    inserts(INSERT_CONNECTIONS, INSERT_ROWS),
    inserts(1, 1),
    limit(`publishes of ${HINTS} hints: hints`, async (build) => {
      const { redis } = await servicesOf(build);
      const meter = new Meter([redis!.pid, process.pid]);
      const rate = await publishRate(redis!.url, textBytes, seconds, meter);
      return sampleOf("Redis", rate, meter);
    }),
  ];
}

const sampleOf = (part: string, rate: number, { cores }: Meter): Sample => ({
  rate,
  [`${part} cores`]: cores[0]!,
  "load cores": cores[1]!,
});
