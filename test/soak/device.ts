// One device of the crowd: a program on the SDK that sends, takes account of what it is told, and can be replaced by
// another program that logs in as the same device.
import { ChatClient } from "../../src/client/client.ts";
import { ClientError } from "../../src/client/events.ts";
import { ChatError, Errno, type Message, MsgId } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import type { Device, Instance } from "./fault.ts";
import { Gate } from "./gate.ts";
import { type Account, type Flow, type Ledger, midOf, textOf } from "./ledger.ts";
import type { Recovery } from "./recovery.ts";

/**
 * A dead connection is noticed after it. The SDK's default, 15 s, is for the networks of phones; a program may choose,
 * but above the server's --store-timeout: while the database is away nothing is answered for 5 s.
 */
const SILENCE_MS = 6_500;
/** Those who come back after a long outage try as often as the limits of the recovery times ask for. */
const RETRY_MAX_MS = 2_000;
/** A log-in of the program before may still be on its way for so long, and take the session back. */
const RIVAL_MS = 30_000;

export class SoakDevice implements Device {
  readonly gate: Gate;
  readonly accounts = new Map<string, Account>();
  onlineAt = 0;
  private client: ChatClient | null = null;
  /** The program that sends is logged in; a new one each time that another takes over. */
  private ready = Promise.withResolvers<ChatClient>();
  private isReady = false;
  /** The last seq that came by this connection, by conversation, seen below the SDK's own filter. */
  private connection = new Map<string, number>();
  /** Where the next connection goes first. */
  private turn: number;
  private stopping = false;
  private takenOverAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly name: string,
    readonly confirms: boolean,
    private readonly user: { id: number; password: string },
    private readonly instances: readonly Instance[],
    private readonly ledger: Ledger,
    private readonly recovery: Recovery,
    turn: number,
  ) {
    this.turn = turn;
    this.gate = new Gate(() => this.route());
  }

  get userId(): number {
    return this.user.id;
  }

  get instance(): Instance | null {
    const port = this.gate.connectedTo;
    return this.instances.find((each) => each.port === port) ?? null;
  }

  get isOnline(): boolean {
    return this.client?.isOnline === true;
  }

  /** As a load balancer does: each connection to the next instance, and past those that refuse it. */
  private route(): number[] {
    const first = this.turn++ % this.instances.length;
    return this.instances.map((_, i) => this.instances[(first + i) % this.instances.length]!.port);
  }

  async start(): Promise<void> {
    await this.begin();
  }

  /** A message that was not sent before; resolves when it is acknowledged, whatever it takes. */
  async post(flow: Flow): Promise<void> {
    const { ledger, recovery } = this;
    const number = ledger.send(flow);
    const [text, mid] = [textOf(flow, number), midOf(flow, number)];
    const { name } = flow.conversation;
    while (!this.stopping) {
      const client = await this.ready.promise;
      try {
        const ack = name.startsWith("g:")
          ? await client.sendGroup(Number(name.slice(2)), text, mid)
          : await client.send(this.partnerIn(name), text, mid);
        if (ack.conv !== name) ledger.findings.add("disorder", `${mid} was acknowledged in ${ack.conv}, not ${name}`);
        ledger.ack(flow, number, ack.seq);
        recovery.acked(this);
        return;
      } catch (error) {
        // The program was replaced, or its session was taken over: the next one has its outbox.
        if (client !== this.client || this.stopping || client.userId === null) continue;
        ledger.findings.add("refused", `${this.name}'s ${mid}: ${(error as Error).message}`);
        return;
      }
    }
  }

  async takeOver(instance: Instance): Promise<void> {
    this.takenOverAt = performance.now();
    this.turn = instance.index;
    await this.replace();
    this.takenOverAt = performance.now();
  }

  /** Another program logs in and goes on. */
  private async replace(): Promise<void> {
    const old = this.client;
    this.client = null;
    // Who waits already, waits for this one: that of another replacement, which this one outdoes.
    if (this.isReady) this.ready = Promise.withResolvers();
    this.isReady = false;
    // Two programs that reconnect would take the session from each other for ever.
    const end = () => void old?.close(0);
    old?.on("offline", end);
    if (old?.isOnline === false) end();
    await this.begin();
    end();
  }

  async close(): Promise<void> {
    this.stopping = true;
    await this.client?.close(1_000);
    this.gate.stop();
  }

  private async begin(): Promise<void> {
    const client = new ChatClient({
      ...{ host: "127.0.0.1", port: this.gate.port },
      ...{ silenceMs: SILENCE_MS, retryMaxMs: RETRY_MAX_MS },
    });
    this.client = client;
    this.listen(client);
    const { id, password } = this.user;
    const [device, confirm] = [this.name, this.confirms];
    // A log-in is no message: who makes one tries again.
    const isIn = () =>
      client.login({ id, password, device, confirm, takeover: true }).then(
        () => true,
        async (error) => {
          if (!isPassing(error) && !this.stopping) throw error;
          await Bun.sleep(300);
          return this.stopping;
        },
      );
    await until(() => client !== this.client || isIn(), `${this.name} is logged in`, 90_000);
    if (client !== this.client) return;
    this.isReady = true;
    this.ready.resolve(client);
  }

  private listen(client: ChatClient): void {
    const { ledger } = this;
    const told = ({ conv, seq, msg }: { conv: string; seq: number; msg: string }) => {
      const account = this.accounts.get(conv);
      if (account === undefined) return;
      const message = ledger.tell(account, seq, msg);
      if (message !== null) this.recovery.told(this, message.flow, message.number);
    };
    client.on("message", told);
    client.on("groupMessage", told);
    client.on("online", () => {
      this.onlineAt = performance.now();
      this.connection.clear();
      if (!this.confirms) for (const account of this.accounts.values()) account.mayHaveMissed = true;
    });
    client.on("ended", ({ errmsg }) => {
      if (client !== this.client || this.stopping) return;
      const hasRival = performance.now() - this.takenOverAt < RIVAL_MS;
      if (!hasRival) ledger.findings.add("refused", `${this.name}'s session: ${errmsg}`);
      // It would stay away; and all that it is not told meanwhile would hide what else there is.
      this.replace().catch((error) => ledger.findings.add("stuck", `${this.name}: ${error.message}`));
    });
    // What the SDK is pushed: it would hide what comes twice or out of order.
    const inbox = (client as unknown as { inbox: { take(push: Message, confirms: boolean): boolean } }).inbox;
    const take = inbox.take.bind(inbox);
    inbox.take = (push, confirms) => {
      if (client === this.client) this.inspect(push);
      return take(push, confirms);
    };
  }

  /** A connection is pushed each conversation in ascending order. */
  private inspect({ msgId, conv, seq }: Message): void {
    if (msgId !== MsgId.chat && msgId !== MsgId.groupChat) return;
    const last = this.connection.get(conv as string) ?? 0;
    // Allowed after the death of a server only; and it may not have been known to the client that it was one.
    if (!this.confirms && last === 0 && (seq as number) <= (this.accounts.get(conv as string)?.last ?? 0))
      this.ledger.again++;
    this.connection.set(conv as string, seq as number);
    if ((seq as number) <= last)
      this.ledger.findings.add("disorder", `${conv}: ${seq} after ${last} on a connection of ${this.name}`);
  }

  private partnerIn(conv: string): number {
    const [low, high] = conv.slice(2).split("-").map(Number) as [number, number];
    return low === this.user.id ? high : low;
  }
}

const isPassing = (error: unknown): boolean =>
  error instanceof ClientError ||
  (error instanceof ChatError &&
    ([Errno.unavailable, Errno.rateLimited, Errno.replaced] as number[]).includes(error.errno));
