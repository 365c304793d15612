// Streams of messages for the tests of slow readers: who sends them, who reads them, and who talks meanwhile.
import { expect } from "bun:test";
import { type JsonObject, MsgId } from "../../src/protocol.ts";
import { until } from "../harness.ts";
import { login, register, type Wire } from "../wire.ts";

/** Sends `count` messages with up to 64 unanswered, and calls `meanwhile` every few milliseconds. */
export async function send(wire: Wire, message: JsonObject, count: number, meanwhile = () => {}): Promise<void> {
  let [sent, acked] = [0, 0];
  await until(
    () => {
      for (const { errno } of wire.rest().filter(({ msgId }) => msgId === MsgId.answer)) {
        expect(errno).toBe(0);
        acked++;
      }
      for (; sent < count && sent - acked < 64; sent++) wire.send({ ...message, reqId: sent });
      meanwhile();
      return acked === count;
    },
    `${count} messages are stored`,
    60_000,
  );
}

/** Takes one conversation's pushes as they come, and sees to it that they are in order and without gaps. */
export class Reader {
  constructor(
    readonly wire: Wire,
    /** The last that has come, or is not to come. */
    public seq = 0,
  ) {}

  take = (): void => {
    for (const { seq, ack } of this.wire.rest())
      if (seq !== undefined && ack === undefined) expect(seq).toBe(++this.seq);
    this.wire.bytes = [];
  };

  until(seq: number): Promise<void> {
    const reached = () => {
      this.take();
      return this.seq >= seq;
    };
    return until(reached, `all messages up to ${seq}`, 30_000);
  }
}

/** Two users who write to each other in turn, and how long their messages take. */
export class Talk {
  heard = 0;
  slowestMs = 0;
  private saidAt = 0;

  private constructor(
    private readonly wires: Wire[],
    private readonly ids: number[],
  ) {
    this.say();
  }

  static async between(port: number): Promise<Talk> {
    const users = [await register(port), await register(port)];
    const wires = await Promise.all(users.map((user) => login(port, user)));
    return new Talk(
      wires,
      users.map(({ id }) => id),
    );
  }

  step = (): void => {
    const listener = this.wires[(this.heard + 1) % 2]!;
    if (!listener.rest().some(({ msgId }) => msgId === MsgId.chat)) return;
    this.slowestMs = Math.max(this.slowestMs, performance.now() - this.saidAt);
    this.heard++;
    this.say();
  };

  private say(): void {
    const speaker = this.heard % 2;
    this.wires[speaker]!.send({ msgId: MsgId.chat, toid: this.ids[1 - speaker], msg: "and then" });
    this.saidAt = performance.now();
  }
}
