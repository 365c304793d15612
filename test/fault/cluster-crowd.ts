// SDK clients that write to each other over several instances, in pairs and in one group, and keep account of it.
import { directConv, groupConv, MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, CHEAP_PASSWORDS, type RunningServer, startAs, until } from "../harness.ts";
import { Recorder, Tunnel } from "../integration/stand-ins.ts";
import { databaseOf, type RunningMariadb } from "../services.ts";
import { register, type User } from "../wire.ts";
import type { Sent, Stored } from "./crowd.ts";

/** Messages that each client has under way. */
const WINDOW = 8;

/** An instance on these addresses, for tests that put something in between. */
export const startInstance = (mysql: string, redis: string[], flags: string[] = []): Promise<RunningServer> =>
  startAs([
    ...[CHAT_SERVER, "0", "--host", "127.0.0.1", "--mysql", mysql],
    ...redis.flatMap((url) => ["--redis", url]),
    ...CHEAP_PASSWORDS,
    ...flags,
  ]);

class Writer {
  readonly sent: Sent[] = [];
  readonly faults: string[] = [];
  /** How long the slowest acknowledgement has taken. */
  slowestMs = 0;

  constructor(
    readonly user: User,
    readonly client: Recorder,
    private readonly toid: number,
    private readonly groupid: number,
  ) {}

  async write(isGoingOn: () => boolean): Promise<void> {
    // A refusal is a fault, and could come again and again at once.
    while (isGoingOn() && this.faults.length === 0) await this.sendOne();
  }

  private async sendOne(): Promise<void> {
    const count = this.sent.length;
    const msg = `${this.user.id}:${count}`;
    const toGroup = count % 3 === 2;
    const conv = toGroup ? groupConv(this.groupid) : directConv(this.user.id, this.toid);
    const sent: Sent = { sender: this.user.id, conv, msg, mid: `m${msg}`, seq: null };
    this.sent.push(sent);
    const startedAt = performance.now();
    try {
      const post = toGroup
        ? this.client.sendGroup(this.groupid, msg, sent.mid!)
        : this.client.send(this.toid, msg, sent.mid!);
      sent.seq = (await post).seq;
    } catch (error) {
      this.faults.push(`${msg}: ${(error as Error).message}`);
    }
    this.slowestMs = Math.max(this.slowestMs, performance.now() - startedAt);
  }

  /** What it was told, by conversation, in the order of its arrival. */
  get told(): Map<string, { seq: number; msg: string }[]> {
    const { message, groupMessage } = this.client.told;
    const all = [...message, ...groupMessage].map(({ conv, seq, msg }) => ({ conv, seq, msg }));
    return Map.groupBy(all, ({ conv }) => conv);
  }

  /** What it should have been told of `stored`, and has not. */
  missing(stored: Stored[]): Stored[] {
    const { told } = this;
    const texts = new Map([...told].map(([conv, all]) => [conv, new Set(all.map(({ msg }) => msg))]));
    const convs = new Set([groupConv(this.groupid), directConv(this.user.id, this.toid)]);
    return stored.filter(
      ({ conv, sender, msg }) => convs.has(conv) && sender !== this.user.id && !texts.get(conv)?.has(msg),
    );
  }

  /** What it was told twice or in the wrong order. */
  get disorder(): string[] {
    return [...this.told].flatMap(([conv, all]) =>
      all
        .filter(({ seq }, i) => i > 0 && seq <= all[i - 1]!.seq)
        .map(({ seq }) => `${conv}: ${seq} of ${this.user.id}`),
    );
  }
}

export class Crowd {
  private writing = false;
  private work: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly writers: Writer[],
    /** What stands between the clients and their instances: one for each port. */
    readonly gates: Tunnel[],
  ) {}

  /** Pairs of clients, all of them members of one group, which come in turn by one of `ports`. */
  static async at(ports: number[], pairs = 4): Promise<Crowd> {
    const gates = await Promise.all(ports.map((port) => Tunnel.to(port)));
    const users = await Promise.all(Array.from({ length: 2 * pairs }, () => register(ports[0]!)));
    const clients = users.map((_, i) => new Recorder(gates[i % gates.length]!.port, { silenceMs: 1_500 }));
    await Promise.all(
      users.map(({ id, password }, i) => clients[i]!.login({ id, password, confirm: true, takeover: true })),
    );
    const { groupid } = await clients[0]!.request(MsgId.createGroup, { groupname: "crowd" });
    for (const client of clients.slice(1)) await client.request(MsgId.joinGroup, { groupid });
    const writers = users.map((user, i) => {
      const partner = users[(i + pairs) % users.length]!;
      return new Writer(user, clients[i]!, partner.id, groupid as number);
    });
    return new Crowd(writers, gates);
  }

  get sent(): Sent[] {
    return this.writers.flatMap((writer) => writer.sent);
  }

  get acked(): number {
    return this.sent.filter(({ seq }) => seq !== null).length;
  }

  get slowestMs(): number {
    return Math.max(...this.writers.map((writer) => writer.slowestMs));
  }

  /** All write until `rest`. */
  write(): void {
    this.writing = true;
    const flows = this.writers.flatMap((writer) => Array.from({ length: WINDOW }, () => writer));
    this.work = Promise.all(flows.map((writer) => writer.write(() => this.writing)));
  }

  /** Waits until `more` messages more are acknowledged. */
  async advance(more: number, ms = 20_000): Promise<void> {
    const goal = this.acked + more;
    await until(() => this.acked >= goal || this.faults.length > 0, `${more} more acknowledged messages`, ms);
    if (this.faults.length > 0) throw new Error(`${this.faults}`);
  }

  /** Stops writing; resolves when all is acknowledged and has arrived. */
  async rest(ms = 20_000): Promise<void> {
    this.writing = false;
    const { sent } = this;
    await until(() => sent.every(({ seq }) => seq !== null), "everything is acknowledged", ms).catch((error) => {
      throw new Error(`${error.message}; ${this.faults}`);
    });
    await this.work;
    const all = this.sent.map((each) => ({ ...each, seq: each.seq!, kind: 0 }));
    const isLacking = (writer: Writer) => writer.missing(all).length > 0;
    await until(() => !this.writers.some(isLacking), "everything arrives", ms).catch((error) => {
      const lacking = this.writers.filter(isLacking).map((writer) => ({
        user: writer.user.id,
        ended: writer.client.told.ended,
        missing: writer.missing(all).map(({ conv, seq }) => `${conv} ${seq}`),
      }));
      throw new Error(`${error.message}: ${JSON.stringify(lacking).slice(0, 2_000)}`);
    });
  }

  /** What must never happen, as it happened. */
  get faults(): string[] {
    return this.writers.flatMap((writer) => [...writer.faults, ...writer.disorder]);
  }

  async close(): Promise<void> {
    await Promise.all(this.writers.map(({ client }) => client.close()));
    for (const gate of this.gates) gate.stop();
  }
}

/** The log as the database `name` holds it, oldest first in each conversation. */
export async function readShared(mariadb: RunningMariadb, url: string): Promise<Stored[]> {
  const rows = await mariadb.admin(
    `SELECT IF(c.kind = 0, CONCAT('u:', c.lo, '-', c.hi), CONCAT('g:', c.lo)) AS conv, m.seq, m.kind, m.sender,
            CONVERT(m.mid USING utf8mb4) AS mid, m.body AS msg
     FROM ${databaseOf(url)}.message m JOIN ${databaseOf(url)}.conversation c ON c.id = m.conversation
     ORDER BY c.id, m.seq`,
  );
  return rows as unknown as Stored[];
}

/** A young database waits for its instances to come back before it counts one as dead. */
export const untilSettled = (mariadb: RunningMariadb): Promise<void> =>
  until(
    async () => Number((await mariadb.admin("SHOW STATUS LIKE 'Uptime'"))[0]!.Value) >= 8,
    "the database is settled",
    12_000,
  );
