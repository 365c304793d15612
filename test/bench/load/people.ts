// Users of the server under load: registered, logged in, connected.
import { type JsonObject, MsgId } from "../../../src/protocol.ts";
import { ask, connect, type Peer } from "../peer.ts";

export const PASSWORD = "password";
/** Who register or log in at once; the server queues 512 hashes. */
const AT_ONCE = 64;

export interface User {
  id: number;
  name: string;
}

let named = 0;

/** A name that nobody has had in this process. */
export const freshName = (): string => `bench${++named}`;

/** Runs `work` for 0 to `count` − 1, some at once. */
export async function forEach(count: number, work: (index: number) => Promise<void>, atOnce = AT_ONCE): Promise<void> {
  let next = 0;
  const go = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(count, atOnce) }, go));
}

/** Registers users, who are not logged in. */
export async function register(port: number, count: number): Promise<User[]> {
  const users: User[] = [];
  const peers = await connectAll(port, Math.min(count, AT_ONCE));
  await forEach(count, async (index) => {
    const peer = peers.pop()!;
    const name = freshName();
    const { id } = await ask(peer, { msgId: MsgId.register, name, password: PASSWORD });
    peers.push(peer);
    users[index] = { id: id as number, name };
  });
  for (const { socket } of peers) socket.end();
  return users;
}

export async function connectAll(port: number, count: number): Promise<Peer[]> {
  const peers: Peer[] = [];
  await forEach(count, async (index) => {
    peers[index] = await connect(port);
  });
  return peers;
}

/** Logs in by the password; the answer. */
export const logIn = (peer: Peer, { id }: User): Promise<JsonObject> =>
  ask(peer, { msgId: MsgId.login, id, password: PASSWORD });

/** Registers users and logs them in, each on a connection of its own. */
export async function enter(port: number, count: number): Promise<{ users: User[]; peers: Peer[] }> {
  const users = await register(port, count);
  const peers = await connectAll(port, count);
  await forEach(count, async (index) => void (await logIn(peers[index]!, users[index]!)));
  return { users, peers };
}

/** As the bare relay knows users: by whatever id they say. */
export async function enterBare(port: number, users: User[]): Promise<Peer[]> {
  const peers = await connectAll(port, users.length);
  await forEach(users.length, async (index) => void (await logIn(peers[index]!, users[index]!)));
  return peers;
}

/** Ends connections, and waits until the server has ended them too. */
export async function leave(peers: Peer[]): Promise<void> {
  const ended = peers.map(
    (peer) =>
      new Promise<void>((resolve) => {
        peer.onFrame = () => undefined;
        peer.onTurn = () => undefined;
        peer.onClose = resolve;
        peer.socket.end();
      }),
  );
  await Promise.all(ended);
}
