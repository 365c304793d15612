// What was acknowledged long ago is sent again, with its mid: it must get its old place, wherever the store keeps it by now.
import { type JsonObject, MsgId } from "../../src/protocol.ts";
import { login, type Wire } from "../wire.ts";
import type { EmbeddedFault } from "./embedded-faults.ts";
import type { Device } from "./fault.ts";
import { type Flow, type Ledger, midOf, nameOf, textOf } from "./ledger.ts";

/** As test/wire.ts registers everybody. */
const PASSWORD = "secret1";
const COUNT = 200;

/** No fault of the server's, but of programs: they have forgotten what they sent. */
export function resendOf(devices: readonly Device[], ledger: Ledger): EmbeddedFault {
  const users = new Map(devices.map(({ name, userId }) => [name, userId]));
  return {
    name: "old messages sent again",
    weight: 2,
    async inject({ random, server }) {
      const wires = new Map<number, Wire>();
      const flows = random.sample(
        ledger.flows.filter(({ acked }) => acked > 0),
        3,
      );
      for (const flow of flows) {
        const id = users.get(flow.account.owner.name)!;
        // A new device begins where the others are: what they have got is not pushed to it.
        const wire =
          wires.get(id) ??
          (await login(server.port, { id, name: "", password: PASSWORD }, { device: `again ${random.next()}` }));
        wires.set(id, wire);
        const numbers = Array.from({ length: COUNT }, () => random.int(0, flow.count - 1));
        await Promise.all(numbers.map((number) => sendAgain(wire, id, flow, number, ledger)));
      }
      for (const wire of wires.values()) wire.close();
    },
  };
}

async function sendAgain(wire: Wire, id: number, flow: Flow, number: number, ledger: Ledger): Promise<void> {
  const seq = flow.seqs.get(number);
  // Not known to be stored: its own program is still at it.
  if (seq === 0) return;
  const answer = await wire.ask({
    ...targetOf(flow.conversation.name, id),
    msg: textOf(flow, number),
    mid: midOf(flow, number),
  });
  if (answer.errno !== 0 || answer.seq !== seq)
    ledger.findings.add("doubled", `${nameOf(flow, number)}, ${seq}, sent again: ${JSON.stringify(answer)}`);
}

function targetOf(conv: string, id: number): JsonObject & { msgId: number } {
  if (conv.startsWith("g:")) return { msgId: MsgId.groupChat, groupid: Number(conv.slice(2)) };
  const [low, high] = conv.slice(2).split("-").map(Number) as [number, number];
  return { msgId: MsgId.chat, toid: low === id ? high : low };
}
