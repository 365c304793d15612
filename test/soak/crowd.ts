// The users of the soak: who has which devices, who writes to whom, and how much.
import { directConv, groupConv, MsgId } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import { register, type User, Wire } from "../wire.ts";
import { SoakDevice } from "./device.ts";
import type { Instance } from "./fault.ts";
import { Account, type Flow, type Ledger } from "./ledger.ts";
import type { Random } from "./random.ts";
import type { Recovery } from "./recovery.ts";

export interface CrowdOptions {
  users: number;
  /** Messages a second that are sent while all is well. */
  rate: number;
}

/** Users in a group; one group more is of all. */
const GROUP_USERS = 8;
/** One device in so many does not confirm. */
const UNCONFIRMED_EVERY = 6;
/** One flow in so many has several messages under way, which may be stored in another order. */
const BURST_EVERY = 8;
const BURST = 8;
/** Of the messages, by where they go: the rest goes to one other user. */
const TO_GROUP = 0.25;
const TO_ALL = 0.01;
/** Between the pacer's turns. */
const TURN_MS = 10;
/** A message that takes longer is stuck: no fault lasts so long. */
const STUCK_MS = 90_000;
/** What is stored arrives within 5 s, whatever was not heard; and the machine may be busy. */
const ARRIVAL_MS = 10_000;

type Target = { conv: string; users: User[] };

export class Crowd {
  readonly devices: SoakDevice[] = [];
  private readonly byKind: Record<"direct" | "group" | "all", Flow[]> = { direct: [], group: [], all: [] };
  private readonly device = new Map<Account, SoakDevice>();
  private readonly underWay = new Map<Flow, number>();
  private readonly stuck = new Set<string>();
  private pacer: Timer | null = null;

  constructor(
    private readonly options: CrowdOptions,
    private readonly instances: readonly Instance[],
    private readonly ledger: Ledger,
    private readonly recovery: Recovery,
    private readonly random: Random,
  ) {}

  /** Everybody registers, makes their groups and logs in on all devices. */
  async gather(): Promise<void> {
    const users = await this.registerUsers();
    const targets = await this.makeConversations(users);
    for (const [index, user] of users.entries()) {
      // One to three each.
      for (let count = 0; count <= index % 3; count++) {
        const turn = this.devices.length;
        const confirms = turn % UNCONFIRMED_EVERY !== UNCONFIRMED_EVERY - 1;
        const name = `user${user.id}-${count}${confirms ? "" : "-unconfirmed"}`;
        const device = new SoakDevice(name, confirms, user, this.instances, this.ledger, this.recovery, turn);
        this.devices.push(device);
        for (const { conv, users: members } of targets)
          if (members.includes(user)) this.join(device, conv, members.length);
      }
    }
    this.recovery.begin(this.devices);
    await Promise.all(this.devices.map((device) => device.start()));
  }

  private async registerUsers(): Promise<User[]> {
    const users: User[] = [];
    for (let index = 0; index < this.options.users; index++)
      users.push(await register(this.instances[index % this.instances.length]!.port));
    return users;
  }

  /** Pairs in a ring, groups, and one group of all; each begins with a message that is not counted. */
  private async makeConversations(users: User[]): Promise<Target[]> {
    const wires = new Map<User, Wire>();
    for (const user of users) {
      const wire = await Wire.connect(this.instances[0]!.port);
      await ask(wire, { msgId: MsgId.login, id: user.id, password: user.password, device: "set-up", takeover: true });
      wires.set(user, wire);
    }
    const targets: Target[] = [];
    const add = async (conv: string, members: User[], opening: object) => {
      const { seq } = await ask(wires.get(members[0]!)!, { ...opening, msg: "opening", mid: `opening ${conv}` });
      this.ledger.addConversation(conv, seq as number);
      targets.push({ conv, users: members });
    };
    for (const [index, user] of users.entries()) {
      const partner = users[(index + 1) % users.length]!;
      if (users.length > 2 || index === 0)
        await add(directConv(user.id, partner.id), [user, partner], { msgId: MsgId.chat, toid: partner.id });
    }
    const groups: User[][] = [users];
    for (let first = 0; first < users.length; first += GROUP_USERS / 2)
      groups.push(
        Array.from({ length: Math.min(GROUP_USERS, users.length) }, (_, i) => users[(first + i) % users.length]!),
      );
    for (const [index, members] of groups.entries()) {
      const { groupid } = await ask(wires.get(members[0]!)!, { msgId: MsgId.createGroup, groupname: `group ${index}` });
      for (const user of members.slice(1)) await ask(wires.get(user)!, { msgId: MsgId.joinGroup, groupid });
      await add(groupConv(groupid as number), members, { msgId: MsgId.groupChat, groupid });
    }
    for (const wire of wires.values()) {
      await ask(wire, { msgId: MsgId.logout });
      wire.close();
    }
    return targets;
  }

  private join(device: SoakDevice, conv: string, members: number): void {
    const conversation = this.ledger.conversations.get(conv)!;
    const account = new Account(conversation, device);
    conversation.accounts.push(account);
    device.accounts.set(conv, account);
    this.device.set(account, device);
    const flow = this.ledger.addFlow(account, this.ledger.flows.length % BURST_EVERY === BURST_EVERY - 1 ? BURST : 1);
    const kind = conv.startsWith("u:") ? "direct" : members > GROUP_USERS ? "all" : "group";
    this.byKind[kind].push(flow);
  }

  /** Everybody writes, until `rest`: no more than the rate, and no flow more than its window. */
  write(): void {
    let at = performance.now();
    let due = 0;
    this.pacer = setInterval(() => {
      const now = performance.now();
      // What could not be sent during a fault is not made up for.
      due = Math.min(due + (this.options.rate * (now - at)) / 1000, this.options.rate / 5);
      at = now;
      for (let tries = 2 * due; tries > 0 && due >= 1; tries--) if (this.sendOne()) due--;
    }, TURN_MS);
  }

  private sendOne(): boolean {
    const chance = this.random.next();
    const { direct, group, all } = this.byKind;
    const flows =
      chance < TO_ALL && all.length > 0 ? all : chance < TO_ALL + TO_GROUP && group.length > 0 ? group : direct;
    const flow = this.random.pick(flows);
    if ((this.underWay.get(flow) ?? 0) >= flow.window) return false;
    this.post(flow);
    return true;
  }

  private async post(flow: Flow): Promise<void> {
    this.underWay.set(flow, (this.underWay.get(flow) ?? 0) + 1);
    await this.device.get(flow.account)!.post(flow);
    this.underWay.set(flow, this.underWay.get(flow)! - 1);
  }

  get waiting(): number {
    return [...this.underWay.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Counts what is not acknowledged for longer than any fault lasts. */
  check(isOver = false): void {
    const { ledger } = this;
    ledger.check();
    for (const [flow, count] of this.underWay) {
      if (count === 0) continue;
      const oldest = flow.count - count;
      const ms = performance.now() - flow.sentAt[oldest % flow.sentAt.length]!;
      const name = `${flow.index}:${oldest}`;
      if ((ms < STUCK_MS && !isOver) || this.stuck.has(name)) continue;
      this.stuck.add(name);
      ledger.findings.add("stuck", `${flow.account.owner.name}'s ${name} for ${Math.round(ms / 1000)} s`);
    }
  }

  /**
   * Writes no more, and waits until everything is acknowledged and told to everybody; then with one more message in each
   * conversation: what a device that does not confirm has missed at the end of a connection shows by the next one.
   */
  async rest(ms: number): Promise<void> {
    if (this.pacer !== null) clearInterval(this.pacer);
    this.pacer = null;
    const { ledger } = this;
    const end = performance.now() + ms;
    const left = () => Math.max(1_000, end - performance.now());
    const settled = () => until(() => this.waiting === 0, "everything is acknowledged", left()).catch(() => undefined);
    await settled();
    await until(() => this.devices.every(({ isOnline }) => isOnline), "all are online", left()).catch(() => undefined);
    const isTold = () => ledger.due().next().done === true;
    await until(isTold, "what is stored arrives by itself", ARRIVAL_MS).catch(() => ledger.checkLate());
    for (const { accounts } of ledger.conversations.values()) {
      const last = ledger.flows.find((flow) => flow.account === accounts[0] && (this.underWay.get(flow) ?? 0) === 0);
      if (last !== undefined) this.post(last);
    }
    await settled();
    this.check(true);
    await until(() => ledger.isComplete, "everything is told", left()).catch(() => undefined);
    ledger.close();
  }

  async close(): Promise<void> {
    await Promise.all(this.devices.map((device) => device.close()));
  }
}

async function ask(wire: Wire, message: object) {
  const answer = await wire.ask(message as Parameters<Wire["ask"]>[0]);
  if (answer.errno !== 0) throw new Error(`the soak cannot be set up: ${JSON.stringify(answer)}`);
  return answer;
}
