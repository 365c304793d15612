// Users who log in and out, and in again: at once, or each time on a new connection.
import { type JsonObject, MsgId } from "../../../src/protocol.ts";
import { connect, encodeText, type Peer, receivedAt } from "../peer.ts";
import { Field, kindOf, numberAt } from "./frames.ts";
import { type Load, type Measured, Tally } from "./tally.ts";

/** With a token or a password. */
export type Credentials = JsonObject & { id: number };

const LOG_OUT = encodeText(JSON.stringify({ msgId: MsgId.logout }));

/** `acked` counts log-ins, each with its log-out; latencies are those of the log-ins, with the connect where it is new. */
export async function driveLogins(
  port: number,
  users: Credentials[],
  reconnect: boolean,
  load: Load,
): Promise<Measured> {
  const tally = new Tally(0);
  const open = new Set<Peer>();
  const begin = async (user: Credentials) => {
    const request = encodeText(JSON.stringify({ msgId: MsgId.login, ...user }));
    const [loginErrno, logoutErrno] = [new Field("errno"), new Field("errno")];
    let sentAt = 0;
    const logInOn = (peer: Peer) => {
      if (tally.allowed(1) === 0) return;
      tally.sent++;
      if (!reconnect) sentAt = performance.now();
      peer.send(request);
    };
    const enter = async () => {
      sentAt = performance.now();
      const peer = await connect(port);
      open.add(peer);
      peer.onFrame = (bytes, start, end) => {
        const kind = kindOf(bytes, start);
        if (kind !== MsgId.loggedIn && kind !== MsgId.answer) return;
        const errno = kind === MsgId.loggedIn ? loginErrno : logoutErrno;
        if (numberAt(bytes, errno.find(bytes, start, end)) !== 0)
          return tally.fail(`refused: ${bytes.toString("utf8", start, end)}`);
        if (kind === MsgId.loggedIn) {
          if (tally.measuring) tally.latencies.record(receivedAt - sentAt);
          return peer.send(LOG_OUT);
        }
        tally.acked++;
        if (tally.stopped) tally.check();
        if (!reconnect) return logInOn(peer);
        open.delete(peer);
        peer.onClose = () => undefined;
        peer.socket.end();
        if (!tally.stopped) enter().catch((error) => tally.fail(error.message));
      };
      peer.onClose = () => tally.fail("a connection was closed");
      logInOn(peer);
    };
    await enter();
  };
  const measured = await tally.run(load, () => {
    for (const user of users) begin(user).catch((error) => tally.fail(error.message));
  });
  for (const peer of open) {
    peer.onClose = () => undefined;
    peer.socket.end();
  }
  return measured;
}
