// TLS: the same protocol behind it, answers after a half-close, large backlogs, and a certificate that is renewed.
// The keys beside this file are made for these tests.
import { afterAll, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { ChatClient } from "../../src/client/client.ts";
import { Decoder } from "../../src/net/codec.ts";
import { encode } from "../../src/net/encode.ts";
import { Fault } from "../../src/net/json.ts";
import { type JsonObject, type Message, MsgId } from "../../src/protocol.ts";
import { startForwarder } from "../forwarder.ts";
import { CHAT_CLIENT, CHAT_SERVER, CHEAP_PASSWORDS, startServer, temporaryFolder, until } from "../harness.ts";

const KEYS = resolve(import.meta.dir, "tls");
const folder = temporaryFolder();
const [certificate, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];

function install(name: string): void {
  copyFileSync(join(KEYS, `${name}.pem`), certificate);
  copyFileSync(join(KEYS, `${name}.key.pem`), key);
}

install("first");
const server = await startServer(join(folder, "chat.db"), [
  ...CHEAP_PASSWORDS,
  ...["--tls-cert", certificate, "--tls-key", key],
]);
afterAll(() => server.stop());

/** A client over TLS that keeps what it receives. */
class Peer {
  readonly received: Message[] = [];
  ended = false;
  private readonly decoder = new Decoder(16 * 1024 * 1024);

  private constructor(readonly socket: TLSSocket) {
    socket.on("data", (chunk: Buffer) => {
      this.decoder.push(chunk);
      for (let next = this.decoder.next(); next !== null; next = this.decoder.next())
        if (!(next instanceof Fault)) this.received.push(next);
    });
    socket.on("end", () => {
      this.ended = true;
    });
    socket.on("error", () => undefined);
  }

  static connect(port = server.port): Promise<Peer> {
    return new Promise((resolve, reject) => {
      const options = { host: "127.0.0.1", port, rejectUnauthorized: false, allowHalfOpen: true };
      const socket = connect(options as ConnectionOptions);
      const peer = new Peer(socket);
      socket.once("secureConnect", () => resolve(peer));
      socket.once("error", reject);
    });
  }

  send(...messages: JsonObject[]): void {
    for (const message of messages) {
      const text = JSON.stringify(message);
      const out = Buffer.alloc(text.length * 3 + 4);
      this.socket.write(out.subarray(0, encode(text, "length", out, 0)));
    }
  }

  async ask(message: JsonObject): Promise<Message> {
    const reqId = crypto.randomUUID();
    this.send({ ...message, reqId });
    await until(() => this.received.some((each) => each.reqId === reqId), `the answer to ${message.msgId}`);
    return this.received.find((each) => each.reqId === reqId)!;
  }
}

async function user(name: string): Promise<{ peer: Peer; id: number }> {
  const peer = await Peer.connect();
  const { id } = await peer.ask({ msgId: MsgId.register, name, password: "secret1" });
  return { peer, id: id as number };
}

test("log-in and chat", async () => {
  const [ann, bob] = [await user("ann"), await user("bob")];
  for (const { peer, id } of [ann, bob])
    expect((await peer.ask({ msgId: MsgId.login, id, password: "secret1" })).errno).toBe(0);
  expect((await ann.peer.ask({ msgId: MsgId.chat, toid: bob.id, msg: "hello" })).seq).toBe(1);
  await until(() => bob.peer.received.some((each) => each.msg === "hello"), "the message");
});

test("a backlog of megabytes arrives whole and in order, and requests before a half-close are answered", async () => {
  const [cat, dan] = [await user("cat"), await user("dan")];
  await cat.peer.ask({ msgId: MsgId.login, id: cat.id, password: "secret1" });
  const texts = Array.from({ length: 200 }, (_, i) => `${i} ${"x".repeat(30_000)}`);
  cat.peer.send(...texts.map((msg, i) => ({ msgId: MsgId.chat, toid: dan.id, msg, mid: `m${i}` })));
  cat.peer.socket.end();
  await until(() => cat.peer.received.filter((each) => each.ack === MsgId.chat).length === 200, "200 answers");
  await until(() => cat.peer.ended, "the server's end");
  await dan.peer.ask({ msgId: MsgId.login, id: dan.id, password: "secret1" });
  await until(() => dan.peer.received.filter((each) => each.msgId === MsgId.chat).length === 200, "the backlog");
  expect(dan.peer.received.filter((each) => each.msgId === MsgId.chat).map((each) => each.msg)).toEqual(texts);
});

/** ./ChatClient with one request on a pipe. */
async function runClient(args: string[]): Promise<{ out: string; err: string; code: number }> {
  const client = Bun.spawn([CHAT_CLIENT, "127.0.0.1", ...args], {
    stdin: new Blob(['{"msgId":1012}\n']),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([client.stdout.text(), client.stderr.text(), client.exited]);
  return { out, err, code };
}

test("ChatClient checks who answers", async () => {
  const port = String(server.port);
  const [ca, name] = [
    ["--tls-ca", join(KEYS, "first.pem")],
    ["--tls-name", "first.chatserver.test"],
  ];
  expect(await runClient([port, ...ca, ...name])).toMatchObject({ out: expect.stringContaining('"errno":0'), code: 0 });
  for (const [args, code, reason] of [
    [[port], 1, "does it expect TLS, or a proxy in between? see --tls in --help"],
    [[port, "--tls"], 1, "its certificate is not trusted"],
    [[port, ...ca], 1, "its certificate names another server"],
    [[port, "--tls-ca", join(KEYS, "renewed.pem"), ...name], 1, "its certificate is not trusted"],
    [[port, "--tls-ca", join(KEYS, "none.pem")], 2, "--tls-ca"],
    [[port, "--tls-ca", join(KEYS, "first.key.pem")], 2, "--tls-ca"],
  ] as const) {
    const got = await runClient([...args]);
    expect([args, got.out, got.code]).toEqual([args, "", code]);
    expect(got.err).toMatch(/^ChatClient: [^\n]+\n$/);
    expect(got.err).toContain(reason);
  }
});

test("the SDK stays logged in over TLS when its connection breaks", async () => {
  const tls = { ca: readFileSync(join(KEYS, "first.pem"), "utf8"), name: "first.chatserver.test" };
  const link = await startForwarder(server.port);
  const { id } = await user("sue");
  const client = new ChatClient({ host: "127.0.0.1", port: link.port, tls, retryMinMs: 10 });
  await client.login({ id, password: "secret1" });
  const back = new Promise((resolve) => client.on("online", resolve));
  link.cut();
  await back;
  expect((await client.send(id, "a note to myself")).seq).toBe(1);
  await client.close();
  link.stop();
});

test("a plain connection to the TLS port is closed, and others go on", async () => {
  const closed = Promise.withResolvers<void>();
  const plain = await Bun.connect({
    hostname: "127.0.0.1",
    port: server.port,
    socket: { data: () => undefined, close: () => closed.resolve(), end: () => closed.resolve() },
  });
  plain.write('{"msgId":1012}\n');
  await closed.promise;
  expect((await (await Peer.connect()).ask({ msgId: MsgId.heartbeat })).errno).toBe(0);
});

test("who connects and shakes no hands has the limits of all, and ends", async () => {
  const flags = [...CHEAP_PASSWORDS, "--tls-cert", certificate, "--tls-key", key, "--login-timeout", "1"];
  const other = await startServer(join(folder, "silent.db"), flags);
  let ended = 0;
  const count = 20;
  const close = () => {
    ended++;
  };
  const socket = { data: () => undefined, close };
  for (let i = 0; i < count; i++) await Bun.connect({ hostname: "127.0.0.1", port: other.port, socket });
  await until(() => ended === count, "their end");
  // Nor do they hold the end of the server up.
  await Bun.connect({ hostname: "127.0.0.1", port: other.port, socket });
  await (await Peer.connect(other.port)).ask({ msgId: MsgId.heartbeat });
  await other.stop();
  expect(other.log()).toContain("draining 2 connections");
  expect(other.log()).not.toContain("not drained in time");
});

const served = async () => (await Peer.connect()).socket.getPeerCertificate().subject.CN;

test("while a certificate is being written, the one before is served", async () => {
  writeFileSync(certificate, "");
  await until(
    () => server.log().includes(`the old one stays in use: --tls-cert ${certificate} is empty`),
    "it is noticed",
    30_000,
  );
  expect(await served()).toBe("first.chatserver.test");
});

test("a renewed certificate is served to new connections, and old ones live on", async () => {
  const old = await Peer.connect();
  expect(old.socket.getPeerCertificate().subject.CN).toBe("first.chatserver.test");
  install("renewed");
  await until(async () => (await served()) === "renewed.chatserver.test", "the renewed certificate", 30_000);
  expect((await old.ask({ msgId: MsgId.heartbeat })).errno).toBe(0);
});

test("a certificate that is missing is told, each time, and the one before is served", async () => {
  const told = () => server.log().match(/WARN +the new certificate .* --tls-cert \S+ cannot be read/g)?.length;
  for (const [times, before, after] of [
    [1, "renewed", "first"],
    [2, "first", "renewed"],
  ] as const) {
    rmSync(certificate);
    await until(() => told() === times, "it is told", 30_000);
    expect(await served()).toBe(`${before}.chatserver.test`);
    install(after);
    await until(async () => (await served()) === `${after}.chatserver.test`, "the next one", 30_000);
  }
  expect(told()).toBe(2);
}, 60_000);

test("a certificate older than its key is a change too", async () => {
  const { mtime } = statSync(key);
  install("first");
  utimesSync(key, mtime, mtime);
  utimesSync(certificate, 0, 0);
  await until(async () => (await served()) === "first.chatserver.test", "the other certificate", 30_000);
});

/** Root may look everywhere, unless this is taken from it. */
const UNPRIVILEGED = process.getuid?.() === 0 ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] : [];

test("what the server may read only later, it reads later, and it complains once", async () => {
  const folder = temporaryFolder();
  for (const name of ["first", "renewed"]) {
    mkdirSync(join(folder, name));
    copyFileSync(join(KEYS, `${name}.pem`), join(folder, name, "cert.pem"));
    copyFileSync(join(KEYS, `${name}.key.pem`), join(folder, name, "key.pem"));
  }
  /** As certbot does it. */
  const point = (name: string) => {
    symlinkSync(name, join(folder, "new"));
    renameSync(join(folder, "new"), join(folder, "live"));
  };
  point("first");
  const flags = ["--tls-cert", join(folder, "live/cert.pem"), "--tls-key", join(folder, "live/key.pem")];
  const other = await startServer(join(folder, "chat.db"), flags, 0, { prefix: UNPRIVILEGED });
  const complaints = () => other.log().split("the new certificate cannot be used").length - 1;
  chmodSync(join(folder, "first"), 0);
  await until(() => complaints() === 1, "that it may not look is told", 30_000);
  chmodSync(join(folder, "renewed/key.pem"), 0);
  point("renewed");
  await until(() => complaints() === 2, "that it may not read is told", 30_000);
  chmodSync(join(folder, "renewed/key.pem"), 0o600);
  await until(() => other.log().includes("certificate reloaded: new connections use it"), "it is read", 30_000);
  expect((await Peer.connect(other.port)).socket.getPeerCertificate().subject.CN).toBe("renewed.chatserver.test");
  expect([complaints(), other.log().includes("bug: ")]).toEqual([2, false]);
  await other.stop();
  chmodSync(join(folder, "first"), 0o700);
}, 100_000);

test("keys that do not fit are refused at start, in one line", async () => {
  for (const [flags, code, word] of [
    [["--tls-cert", certificate], 2, "--tls-key"],
    [["--tls-cert", certificate, "--tls-key", join(KEYS, "renewed.key.pem")], 1, "--tls-key"],
    [["--tls-cert", join(folder, "none.pem"), "--tls-key", key], 1, "none.pem"],
    [["--tls-cert", "/dev/null", "--tls-key", key], 1, "--tls-cert /dev/null is empty"],
  ] as const) {
    const child = Bun.spawnSync([CHAT_SERVER, "0", "--data", join(folder, "other.db"), ...flags]);
    expect([child.exitCode, child.stderr.toString().trim().split("\n").length]).toEqual([code, 1]);
    expect(child.stderr.toString()).toContain(word);
  }
});
