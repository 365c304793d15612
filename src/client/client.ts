// The SDK: a client that stays logged in. Connects, logs in, sends with acknowledgement, emits what arrives; when the
// connection breaks it reconnects, resumes with its token and resends what was not acknowledged.
//
//   const client = new ChatClient({ host: "127.0.0.1", port: 6000 });
//   client.on("message", ({ name, msg }) => console.log(name, msg)); // before the login: stored ones follow at once
//   await client.login({ name: "ann", password: "secret1", confirm: true });
//   const { conv, seq } = await client.send(2, "hello"); // resolves when it is stored
//   await client.close();
import { ChatError, Errno, type JsonObject, type Message, MsgId } from "../protocol.ts";
import { retryAfterMs } from "./backoff.ts";
import { Connector, type ConnectorOptions } from "./connector.ts";
import { ClientError, Emitter, type Events, eventOf, type LoggedIn, type Login } from "./events.ts";
import { Inbox } from "./inbox.ts";
import type { Address } from "./link.ts";
import { type Ack, Outbox, TRANSIENT } from "./outbox.ts";
import { Requests } from "./requests.ts";

interface Options extends ConnectorOptions {
  /** Limit for unacknowledged sends, and likewise for unanswered requests; more are rejected. */
  maxOutstanding: number;
}
export type ClientOptions = Address & Partial<Options>;

const DEFAULTS = {
  connectTimeoutMs: 10_000,
  // The server answers everything within 30 s.
  requestTimeoutMs: 35_000,
  heartbeatMs: 30_000,
  silenceMs: 15_000,
  retryMinMs: 200,
  retryMaxMs: 15_000,
  maxOutstanding: 10_000,
};

/** Who is logged in, kept across reconnects. */
interface Account {
  id: number;
  token: string;
  password: string | undefined;
  device: string;
  confirm: boolean;
}

const CHANGE_PASSWORD = 1026;
/** A login without an answer may still be carried out this much later, by a server that was paused or slow. */
const DOUBT_MS = 60_000;

export class ChatClient {
  private readonly options: Options;
  private readonly events = new Emitter<Events>();
  private readonly connector: Connector;
  private readonly requests: Requests;
  private readonly outbox: Outbox;
  private readonly inbox: Inbox;
  private account: Account | null = null;
  /** This connection is logged in as `account`. */
  private loggedIn = false;
  private closing: Promise<number> | null = null;
  /** When a login was last given up without an answer. */
  private doubtAt = Number.NEGATIVE_INFINITY;
  /** Nothing more is sent: FIN is on its way. */
  private finished = false;

  constructor(options: ClientOptions) {
    this.options = { ...DEFAULTS, ...options };
    const connector = new Connector(this.options, {
      isKept: () => this.account !== null,
      onConnected: () => this.handleConnected(),
      onPush: (message) => this.handlePush(message),
      onLost: (reason, retryInMs) => this.handleLost(reason, retryInMs),
    });
    this.connector = connector;
    this.requests = new Requests(connector, this.options, (request, answer) => this.note(request, answer));
    this.outbox = new Outbox(
      this.options.maxOutstanding,
      (asked, text) => connector.write(asked, text),
      () => connector.succeeded(),
    );
    this.inbox = new Inbox((conv, seq) => connector.ask(MsgId.confirm, { conv, seq }, () => undefined));
  }

  /** The id of the logged-in user, also while disconnected; null where nobody is logged in. */
  get userId(): number | null {
    return this.account?.id ?? null;
  }

  /** Whether a user is logged in and the connection is up. */
  get isOnline(): boolean {
    return this.loggedIn;
  }

  /** How many messages are sent but not acknowledged. */
  get outstanding(): number {
    return this.outbox.size;
  }

  /** Calls `listener` for each event of this name; returns the function that unsubscribes it. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  /** Connects now; calls that need a connection do so by themselves. Throws ClientError "unreachable". */
  async connect(): Promise<void> {
    if (this.closing !== null) throw closedError();
    await this.connector.connect();
  }

  /** Creates an account; resolves to its id. */
  async register(name: string, password: string): Promise<number> {
    return (await this.request(MsgId.register, { name, password })).id as number;
  }

  /** Logs in, and stays logged in across reconnects until `logout`, `close` or the event `ended`. */
  async login(fields: Login): Promise<LoggedIn> {
    return (await this.request(MsgId.login, { ...fields })) as LoggedIn;
  }

  /** Logs out once everything sent is acknowledged. `revoke` voids all tokens of the user. */
  async logout(revoke = false): Promise<void> {
    await waitAtMost(this.options.requestTimeoutMs, this.outbox.whenEmpty());
    await this.request(MsgId.logout, revoke ? { revoke } : {});
  }

  /**
   * Sends to a user. Resolves once the message is stored, however often the connection breaks meanwhile. `mid` is the
   * sender's own id of the message. Rejects with the server's ChatError where it refuses the message for good, with
   * ClientError "full" where too many wait, "closed" where the session ends before the answer: it may then be stored.
   */
  send(toid: number, msg: string, mid: string = Bun.randomUUIDv7()): Promise<Ack> {
    return this.post({ msgId: MsgId.chat, toid, msg, mid });
  }

  /** Sends to a group; otherwise like `send`. */
  sendGroup(groupid: number, msg: string, mid: string = Bun.randomUUIDv7()): Promise<Ack> {
    return this.post({ msgId: MsgId.groupChat, groupid, msg, mid });
  }

  /**
   * Sends any request; resolves to its answer. Rejects with the server's ChatError, or with a ClientError. It is never
   * sent twice: if the connection breaks before the answer, whether it was carried out is unknown.
   */
  request(msgId: number, fields: JsonObject = {}): Promise<Message> {
    const message = { msgId, ...fields, reqId: fields.reqId ?? this.connector.nextReqId() };
    return this.ask(message, JSON.stringify(message));
  }

  /** Sends a request as the JSON text given, adding only a missing `reqId`. Rejects with SyntaxError too. */
  async requestText(text: string): Promise<Message> {
    const message: Message | null = JSON.parse(text);
    if (message === null || !Number.isSafeInteger(message.msgId) || Array.isArray(message))
      throw new SyntaxError("a request is a JSON object with an integer msgId");
    if (message.reqId !== undefined && message.reqId !== null) return this.ask(message, text);
    const reqId = this.connector.nextReqId();
    return this.ask({ ...message, reqId }, `${text.slice(0, text.lastIndexOf("}"))},"reqId":${reqId}}`);
  }

  /**
   * Waits until everything sent is acknowledged, at most `timeoutMs`, then ends the connection in good order. What is
   * still unanswered rejects with ClientError "closed". Afterwards nothing of the client keeps the process alive.
   * Resolves to the number of messages given up.
   */
  close(timeoutMs = 5_000): Promise<number> {
    this.closing ??= this.finish(timeoutMs);
    return this.closing;
  }

  private async finish(timeoutMs: number): Promise<number> {
    await waitAtMost(timeoutMs, this.outbox.whenEmpty());
    this.inbox.confirmNow();
    this.finished = true;
    this.outbox.suspend();
    const unsent = this.outstanding;
    this.failAll(new ClientError("closed", "the client was closed before the answer: it may have been done"));
    // The server still answers after our FIN.
    await this.connector.stop();
    this.inbox.disconnected();
    this.loggedIn = false;
    return unsent;
  }

  private async post(message: Message & { msg: string; mid: string }): Promise<Ack> {
    if (this.closing !== null) throw closedError();
    if (this.account === null) throw new ChatError(Errno.notLoggedIn, "log in before sending");
    return this.outbox.add({ ...message, reqId: this.connector.nextReqId() });
  }

  private async ask(message: Message, text: string): Promise<Message> {
    if (this.closing !== null) throw closedError();
    // What has been emitted so far was delivered to the user who logs out.
    if (message.msgId === MsgId.logout) this.inbox.confirmNow();
    const answer = this.requests.ask(message, text, this.account === null ? null : this.outbox);
    if (message.msgId === MsgId.login) answer.catch((error) => error instanceof ClientError && this.doubt());
    // Otherwise the connector is reconnecting already.
    if (this.account === null) this.connector.connect().catch((error) => this.requests.fail(error));
    return answer;
  }

  /** Notes what a successful request changes about the account. */
  private note({ msgId, device, password, newpassword, confirm }: Message, answer: Message): void {
    if (this.finished) return;
    if (msgId === MsgId.login) {
      const fields = { device: textOf(device) ?? "", password: textOf(password), confirm: confirm === true };
      this.begin(answer as LoggedIn, fields, false);
    } else if (msgId === MsgId.logout) this.forget(new ClientError("closed", "logged out before the answer came"));
    else if (msgId === CHANGE_PASSWORD && this.account !== null)
      Object.assign(this.account, { password: textOf(newpassword), token: textOf(answer.token) ?? "" });
  }

  private handleConnected(): void {
    if (this.account !== null) this.resume(this.account, this.account.token !== "");
    else this.requests.writeWaiting();
  }

  /** Logs in again, taking over the session that the server may still hold for us. */
  private resume({ id, token, password, device, confirm }: Account, byToken: boolean): void {
    const proof = byToken ? { token } : { password };
    this.connector.ask(MsgId.login, { id, ...proof, device, confirm, takeover: true }, (answer) => {
      if (answer === null) this.doubt();
      // If the connection broke, another one is on its way; and a logout may have come in between.
      if (answer === null || this.account === null || this.finished) return;
      const errno = answer.errno as number;
      if (errno === Errno.ok) this.begin(answer as LoggedIn, { password, device, confirm }, true);
      else if (errno === Errno.badCredentials && byToken && password !== undefined) this.resume(this.account, false);
      else if (TRANSIENT.includes(errno)) this.connector.drop(String(answer.errmsg), retryAfterMs(answer.retryAfterMs));
      else this.end(errno, String(answer.errmsg));
    });
  }

  private begin(login: LoggedIn, fields: Omit<Account, "id" | "token">, resumed: boolean): void {
    if (this.account?.id !== login.id || this.account.device !== fields.device) this.inbox.forget();
    this.account = { ...fields, id: login.id, token: login.token };
    this.loggedIn = true;
    this.events.emit("online", { login, resumed });
    this.outbox.open();
  }

  private handlePush(push: Message): void {
    const confirms = this.account?.confirm === true;
    // What can no longer be confirmed comes again at the next login.
    if (this.finished && confirms) return;
    if (!this.inbox.take(push, confirms)) return;
    this.events.emit(eventOf(push), push as never);
    if (push.msgId !== MsgId.notice || this.finished) return;
    if (push.errno === Errno.replaced) this.end(Errno.replaced, String(push.errmsg));
    else this.connector.drop(String(push.errmsg), retryAfterMs(push.retryAfterMs));
  }

  private handleLost(reason: string, retryInMs: number | null): void {
    const tell = this.loggedIn || this.account === null;
    this.loggedIn = false;
    this.inbox.disconnected();
    // Before what is in flight comes back, so that it waits for the next connection.
    this.outbox.suspend();
    if (tell) this.events.emit("offline", { reason, retryInMs });
  }

  /** It is unknown whether a login was, or will be, carried out. */
  private doubt(): void {
    this.doubtAt = performance.now();
  }

  /** The session cannot be resumed, unless it was taken over by an earlier login of this client itself. */
  private end(errno: number, errmsg: string): void {
    const wasOwn = errno === Errno.replaced && performance.now() - this.doubtAt < DOUBT_MS;
    this.doubtAt = Number.NEGATIVE_INFINITY;
    if (wasOwn) return this.connector.drop(errmsg);
    this.forget(new ClientError("closed", `the session is over (${errmsg}): it may have been done`));
    this.connector.drop(errmsg);
    this.events.emit("ended", { errno, errmsg });
  }

  /** Nobody is logged in any more: what waits for an answer fails with `error`. */
  private forget(error: Error): void {
    this.account = null;
    this.loggedIn = false;
    this.inbox.disconnected();
    this.outbox.suspend();
    this.failAll(error);
  }

  /** Fails what is waiting; requests already written are settled by the connector. */
  private failAll(error: Error): void {
    this.outbox.fail(error);
    this.requests.fail(error);
  }
}

const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

const closedError = (): ClientError => new ClientError("closed", "the client is closed");

/** Waits for `work`, but no longer than `ms`. */
async function waitAtMost(ms: number, work: Promise<void>): Promise<void> {
  let timer: Timer | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}
