// nginx with the configuration that ships, in front of instances that each have a store of their own: who gets the
// connections, what clients notice of instances that come and go, and whose address the instances see.
import { afterEach, expect, test } from "bun:test";
import { connect } from "node:net";
import { resolve } from "node:path";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { type RunningNginx, startNginx } from "../nginx.ts";
import { Wire } from "../wire.ts";

const FLAGS = ["--proxy-protocol", "--log-level", "debug", ...CHEAP_PASSWORDS];
/** Of proxy_connect_timeout, with what a loaded machine adds. */
const CONNECT_DELAY_MS = 1_000 + 1_500;
/** Of fail_timeout. */
const FAIL_TIMEOUT_MS = 5_000;

const cleanUps: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

interface Instance {
  server: RunningServer;
  data: string;
  /** Its only user: who can log in as this one is on this instance. */
  user: string;
}

let users = 0;

async function startInstance(): Promise<Instance> {
  const data = `${temporaryFolder()}/chat.db`;
  const server = await startServer(data, FLAGS);
  cleanUps.push(() => server.stop("SIGKILL"));
  const user = `user${++users}`;
  const wire = await Wire.connect(server.port);
  wire.raw("PROXY UNKNOWN\r\n");
  expect(await wire.ask({ msgId: 1000, name: user, password: "secret1" })).toMatchObject({ errno: 0, id: 1 });
  wire.close();
  return { server, data, user };
}

async function setUp(): Promise<{ nginx: RunningNginx; first: Instance; second: Instance }> {
  const [first, second] = await Promise.all([startInstance(), startInstance()]);
  return { nginx: await front(first.server.port, second.server.port), first, second };
}

async function front(first: number, second: number): Promise<RunningNginx> {
  const nginx = await startNginx(first, second);
  cleanUps.push(() => nginx.stop());
  return nginx;
}

interface Chat {
  wire: Wire;
  instance: Instance;
}

/** A client of nginx, logged in on whichever of the instances it has got to. */
async function enter(nginx: RunningNginx, instances: Instance[]): Promise<Chat> {
  const wire = await Wire.connect(nginx.port);
  cleanUps.push(() => wire.close());
  for (const instance of instances) {
    const device = `d${++users}`;
    const { errno } = await wire.ask({ msgId: 1002, name: instance.user, password: "secret1", device });
    if (errno === 0) return { wire, instance };
    expect(errno).toBe(3);
  }
  throw new Error("none of the instances knows its user");
}

/** Enters until `instance` is reached. */
async function enterAt(nginx: RunningNginx, instances: Instance[], instance: Instance): Promise<Chat> {
  let chat: Chat | undefined;
  const reached = async () => {
    chat?.wire.close();
    chat = await enter(nginx, instances);
    return chat.instance === instance;
  };
  await until(reached, `a connection to the instance on ${instance.server.port}:\n${nginx.log()}`, 20_000);
  return chat!;
}

/** Registers and logs in from another address of this machine, as text; what the server answered, joined. */
async function enterFrom(localAddress: string, port: number, name: string, before = ""): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port, localAddress });
  cleanUps.push(() => socket.destroy());
  let received = "";
  socket.on("data", (chunk) => {
    received += chunk;
  });
  socket.on("error", (error) => {
    received += error;
  });
  const requests = [1000, 1002].map((msgId) => JSON.stringify({ msgId, name, password: "secret1" }));
  socket.write(`${before}${requests.join("\n")}\n`);
  await until(() => /"msgId":1003,.*\n/.test(received), `the log-in answered: ${received}`);
  return received;
}

test("connections go to the instances by turns", async () => {
  const { nginx, first, second } = await setUp();
  const reached: Instance[] = [];
  for (let i = 0; i < 10; i++) reached.push((await enter(nginx, [first, second])).instance);
  expect(reached.filter((instance) => instance === first)).toHaveLength(5);
  expect(reached.filter((instance) => instance === second)).toHaveLength(5);
});

test("the instances know the client's address, not nginx's, and no client can forge one", async () => {
  const { nginx, first, second } = await setUp();
  const logs = () => first.server.log() + second.server.log();
  await enterFrom("127.0.0.77", nginx.port, "honest");
  await until(() => logs().includes("logged in from 127.0.0.77\n"), `the client's address in the log:\n${logs()}`);
  const answers = await enterFrom("127.0.0.78", nginx.port, "forger", "PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n");
  expect(answers).toMatch(/^\{"msgId":1010,[^\n]*"errno":18/);
  await until(() => logs().includes("logged in from 127.0.0.78\n"), `the client's address in the log:\n${logs()}`);
  expect(logs()).not.toContain("6.6.6.6");
  expect(logs()).not.toContain("logged in from 127.0.0.1\n");
});

test("messages of every size and many at once pass", async () => {
  const { nginx, first, second } = await setUp();
  const sender = await enter(nginx, [first, second]);
  const receiver = await enterAt(nginx, [first, second], sender.instance);
  const count = 64;
  const msg = (i: number) => `${i} ${"x".repeat((i * 997) % 60_000)}`;
  // To oneself: the other device gets it.
  sender.wire.send(...Array.from({ length: count }, (_, i) => ({ msgId: 1004, toid: 1, msg: msg(i), mid: `m${i}` })));
  for (let i = 0; i < count; i++) {
    expect(await sender.wire.next()).toMatchObject({ ack: 1004, errno: 0, mid: `m${i}`, seq: i + 1 });
    expect((await receiver.wire.push(1004)).msg).toBe(msg(i));
  }
});

test("what was asked before the client's FIN is answered", async () => {
  const { nginx } = await setUp();
  const wire = await Wire.connect(nginx.port, "lf");
  cleanUps.push(() => wire.close());
  wire.raw('{"msgId":1012,"reqId":1}\n{"msgId":1000,"reqId":2,"name":"short","password":"secret1"}\n');
  wire.halfClose();
  expect(await wire.next()).toMatchObject({ ack: 1012, reqId: 1, errno: 0 });
  expect(await wire.next()).toMatchObject({ msgId: 1001, reqId: 2, errno: 0 });
  await wire.whenEnded();
});

test("a third instance is added by a reload, and no open chat notices", async () => {
  const { nginx, first, second } = await setUp();
  const enterBoth = async (instance: Instance) => ({
    sender: (await enterAt(nginx, [first, second], instance)).wire,
    receiver: (await enterAt(nginx, [first, second], instance)).wire,
  });
  const chats = [await enterBoth(first), await enterBoth(second)];
  let talking = true;
  let said = 0;
  const talk = async () => {
    for (; talking; said++)
      for (const { sender, receiver } of chats) {
        expect(await sender.ask({ msgId: 1004, toid: 1, msg: `${said}` })).toMatchObject({ errno: 0 });
        expect((await receiver.push(1004)).msg).toBe(`${said}`);
      }
  };
  const talks = talk();
  try {
    const third = await startInstance();
    const before = said;
    nginx.addInstance(third.server.port);
    for (const instance of [third, first, second]) await enterAt(nginx, [first, second, third], instance);
    await until(() => said > before + 10, "the chats going on after the reload");
  } finally {
    talking = false;
    await talks;
  }
  for (const { sender, receiver } of chats) expect([sender.ended, receiver.ended]).toEqual([false, false]);
});

test("a killed instance is avoided at once, its clients come back on another, and it returns when it is back", async () => {
  const { nginx, first, second } = await setUp();
  const lost = await enterAt(nginx, [first, second], first);
  const kept = await enterAt(nginx, [first, second], second);
  await first.server.stop("SIGKILL");
  await lost.wire.whenEnded(2_000);
  const began = performance.now();
  for (let i = 0; i < 30; i++) {
    const asked = performance.now();
    expect((await enter(nginx, [second])).instance).toBe(second);
    expect(performance.now() - asked).toBeLessThan(CONNECT_DELAY_MS);
  }
  const failures = nginx.log().match(/connect\(\) failed/g)?.length ?? 0;
  expect(failures).toBeGreaterThan(0);
  expect(failures).toBeLessThanOrEqual(2 + Math.ceil((performance.now() - began) / FAIL_TIMEOUT_MS));
  await kept.wire.settle();
  expect(kept.wire.ended).toBe(false);

  const back = { ...first, server: await startServer(first.data, FLAGS, first.server.port) };
  cleanUps.push(() => back.server.stop("SIGKILL"));
  await enterAt(nginx, [back, second], back);
});

test("a drained instance tells its clients, and nobody is sent to it any more", async () => {
  const { nginx, first, second } = await setUp();
  const chat = await enterAt(nginx, [first, second], first);
  const stopped = first.server.stop();
  expect(await chat.wire.next()).toMatchObject({ msgId: 1028, errno: 20, retryAfterMs: expect.any(Number) });
  await chat.wire.whenEnded();
  chat.wire.close();
  for (let i = 0; i < 6; i++) expect((await enter(nginx, [second])).instance).toBe(second);
  expect(await stopped).toBe(0);
});

// A machine that is gone answers no SYN; so does a process that accepts nothing and whose queue is full.
test("an instance that does not answer costs a client the connect timeout, and then nobody", async () => {
  const second = await startInstance();
  const deaf = await startDeaf();
  const nginx = await front(deaf, second.server.port);
  const began = performance.now();
  for (let i = 0; i < 12; i++) {
    const asked = performance.now();
    await enter(nginx, [second]);
    expect(performance.now() - asked).toBeLessThan(CONNECT_DELAY_MS);
  }
  const timeouts = nginx.log().match(/upstream timed out/g)?.length ?? 0;
  expect(timeouts).toBeGreaterThan(0);
  expect(timeouts).toBeLessThanOrEqual(2 + Math.ceil((performance.now() - began) / FAIL_TIMEOUT_MS));
});

/** The port of a stopped process whose queue of connections is full. */
async function startDeaf(): Promise<number> {
  const script = `
    import { setBacklog } from "./src/libc.ts";
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    if (!setBacklog(listener.fd, 0)) process.exit(1);
    process.stdout.write(listener.port + "\\n");
    process.kill(process.pid, "SIGSTOP");
  `;
  const child = Bun.spawn([process.execPath, "-e", script], { cwd: resolve(import.meta.dir, "../.."), stdout: "pipe" });
  cleanUps.push(() => child.kill("SIGKILL"));
  const { value } = await child.stdout.getReader().read();
  const port = Number(new TextDecoder().decode(value));
  expect(port).toBeGreaterThan(0);
  const connections: ReturnType<typeof connect>[] = [];
  cleanUps.push(() => {
    for (const socket of connections) socket.destroy();
  });
  // One that is not connected soon: the queue is full.
  const isFull = async () => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.on("error", () => undefined);
    connections.push(socket);
    return !(await Promise.race([new Promise((done) => socket.once("connect", () => done(true))), Bun.sleep(500)]));
  };
  await until(isFull, "a full queue");
  return port;
}
