// systemd's side of the server: what it is told, the sockets it holds, and the units and environment file that ship.
import { afterEach, expect, test } from "bun:test";
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { currentEnvironmentFile } from "../../build/environment.ts";
import { readOptions } from "../../src/cli.ts";
import { MsgId } from "../../src/protocol.ts";
import {
  CHAT_SERVER,
  CHEAP_PASSWORDS,
  freePort,
  type RunningServer,
  runProgram,
  type Surroundings,
  startAs,
  startServer,
  temporaryFolder,
  until,
} from "../harness.ts";
import { holdPort, NotifySocket } from "../native-sockets.ts";
import { Wire } from "../wire.ts";

const UNITS = resolve(import.meta.dir, "../../systemd");
const SERVICE = readFileSync(join(UNITS, "ChatServer@.service"), "utf8");
const ENVIRONMENT = { PATH: process.env.PATH, HOME: temporaryFolder() };
const database = () => join(temporaryFolder(), "chat.db");

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});
function keep<T extends { close(): void }>(socket: T): T {
  open.push(socket);
  return socket;
}

/** A program of systemd's; null where there is none, which is allowed on machines that have no systemd alone. */
function systemdProgram(name: string): string | null {
  const path = Bun.which(name);
  if (path === null) expect(existsSync("/usr/lib/systemd/systemd") || existsSync("/lib/systemd/systemd")).toBe(false);
  return path;
}

/** Reads until a message has all of these lines. */
async function told(socket: NotifySocket, ...lines: string[]): Promise<string[]> {
  let message: string[] | null = null;
  const fits = () => {
    message = socket.read();
    return message !== null && lines.every((line) => message!.includes(line));
  };
  await until(fits, `a message with ${lines}`);
  return message!;
}

function startNotifying(
  socket: NotifySocket,
  port = 0,
  env: Record<string, string | undefined> = {},
): Promise<RunningServer> {
  const surroundings = { env: { ...ENVIRONMENT, NOTIFY_SOCKET: socket.path, ...env } };
  return startServer(database(), [...CHEAP_PASSWORDS, "--drain-timeout", "7"], port, surroundings);
}

for (const kind of ["a path", "an abstract name"])
  test(`READY when clients can connect, then pings and the number of connections, then STOPPING: ${kind}`, async () => {
    const name = join(temporaryFolder(), "notify");
    const socket = keep(new NotifySocket(kind === "a path" ? name : `@${name}`));
    const port = freePort();
    const starting = startNotifying(socket, port, { WATCHDOG_USEC: "100000" });
    const ready = await told(socket, "READY=1");
    const first = await Wire.connect(port);
    const second = await Wire.connect(port);
    const server = await starting;
    expect(ready).toEqual(["READY=1", `MAINPID=${server.pid}`, "STATUS=connections: 0", "WATCHDOG=1"]);
    for (let ping = 0; ping < 10; ping++) await told(socket, "WATCHDOG=1");
    await told(socket, "STATUS=connections: 2");
    second.close();
    await told(socket, "STATUS=connections: 1");
    const exited = server.stop();
    await told(socket, "STOPPING=1", "EXTEND_TIMEOUT_USEC=12000000", "STATUS=draining, connections: 1", "WATCHDOG=1");
    expect((await first.next()).errno).toBe(20);
    expect(await exited).toBe(0);
  });

test("no pings where systemd expects none, or those of another process", async () => {
  for (const env of [{}, { WATCHDOG_USEC: "0" }, { WATCHDOG_USEC: "100000", WATCHDOG_PID: "1" }]) {
    const socket = keep(new NotifySocket(join(temporaryFolder(), "notify")));
    const server = await startNotifying(socket, 0, env);
    expect(await told(socket, "READY=1")).toEqual(["READY=1", `MAINPID=${server.pid}`, "STATUS=connections: 0"]);
    await server.stop();
    expect(await told(socket, "STOPPING=1")).not.toContain("WATCHDOG=1");
  }
});

test("a systemd that does not read holds nobody up, and learns later what it has missed", async () => {
  const socket = keep(new NotifySocket(join(temporaryFolder(), "notify")));
  const server = await startNotifying(socket, 0, { WATCHDOG_USEC: "4000" });
  const wire = await Wire.connect(server.port);
  // A datagram socket takes some ten messages: pings every 2 ms have filled it long before this ends.
  const end = performance.now() + 500;
  while (performance.now() < end) await wire.settle();
  const other = await Wire.connect(server.port);
  await other.settle();
  await told(socket, "READY=1", "STATUS=connections: 2");
  expect(await server.stop()).toBe(0);
});

test("a socket that is not there costs a warning, not the service", async () => {
  const path = join(temporaryFolder(), "nobody");
  const server = await startServer(database(), CHEAP_PASSWORDS, 0, { env: { ...ENVIRONMENT, NOTIFY_SOCKET: path } });
  await until(() => server.log().includes(`WARN  cannot notify systemd at ${path}`), "the warning");
  await (await Wire.connect(server.port)).settle();
  expect(await server.stop()).toBe(0);
});

/** What systemd sets before it starts a service with a passed socket; LISTEN_PID is the service's own. */
const passing = (fd: number, count = "1", pid = "$$"): Surroundings => ({
  prefix: ["sh", "-c", `export LISTEN_PID=${pid} LISTEN_FDS=${count}; exec "$@"`, "sh"],
  descriptors: [fd],
  env: ENVIRONMENT,
});

test("while a held socket's server restarts, nobody is refused", async () => {
  const held = keep(holdPort());
  const data = database();
  const start = () => startServer(data, CHEAP_PASSWORDS, 0, passing(held.fd));
  let server = await start();
  expect(server.port).toBe(held.port);
  let [arriving, answered, turnedOver] = [true, 0, 0];
  const arrivals = (async () => {
    while (arriving) {
      const wire = await Wire.connect(held.port);
      wire.send({ msgId: MsgId.heartbeat });
      // Whoever was there when the old server began to end is told so.
      const { msgId } = await wire.next(({ msgId }) => msgId === MsgId.answer || msgId === MsgId.notice);
      if (msgId === MsgId.answer) answered++;
      else turnedOver++;
      wire.close();
    }
  })();
  for (let round = 0; round < 4; round++) {
    const there = await Wire.connect(held.port);
    await there.settle();
    expect(await server.stop()).toBe(0);
    expect((await there.next()).errno).toBe(20);
    const waiting = await Wire.connect(held.port);
    const answer = waiting.ask({ msgId: MsgId.heartbeat });
    server = await start();
    expect((await answer).errno).toBe(0);
    waiting.close();
  }
  arriving = false;
  await arrivals;
  expect(answered).toBeGreaterThan(4);
  expect(turnedOver).toBeLessThanOrEqual(4);
  await server.stop();
});

test("what is passed to another process, or is no listening socket, is not taken", async () => {
  const held = keep(holdPort());
  const own = await startServer(database(), CHEAP_PASSWORDS, 0, passing(held.fd, "1", "1"));
  expect(own.port).not.toBe(held.port);
  await (await Wire.connect(own.port)).settle();
  await own.stop();
  const run = (surroundings: Surroundings) => runProgram([CHAT_SERVER, "0", "--data", database()], surroundings);
  const several = await run(passing(held.fd, "2"));
  expect(several.errors).toBe("ChatServer: LISTEN_FDS=2: the socket unit must have exactly one ListenStream=\n");
  const notify = new NotifySocket(join(temporaryFolder(), "notify"));
  const datagrams = await run(passing((notify as unknown as { fd: number }).fd));
  notify.close();
  expect(datagrams.errors).toStartWith("ChatServer: systemd passed something other than a listening TCP socket");
  expect([several.code, datagrams.code]).toEqual([1, 1]);
});

test("the first client starts the server under systemd-socket-activate", async () => {
  const program = systemdProgram("systemd-socket-activate");
  if (program === null) return;
  const port = freePort();
  const command = [CHAT_SERVER, "0", "--data", database(), ...CHEAP_PASSWORDS];
  const starting = startAs([program, "-l", `127.0.0.1:${port}`, ...command], { env: ENVIRONMENT });
  let wire!: Wire;
  const connect = async () => {
    wire = await Wire.connect(port);
    return true;
  };
  await until(() => connect().catch(() => false), "the activator listens");
  const server = await starting;
  expect(server.port).toBe(port);
  await wire.settle();
  expect(await server.stop()).toBe(0);
});

test("systemd finds nothing wrong with the units", async () => {
  const program = systemdProgram("systemd-analyze");
  if (program === null) return;
  const root = temporaryFolder();
  const units = join(root, "usr/lib/systemd/system");
  mkdirSync(units, { recursive: true });
  mkdirSync(join(root, "usr/bin"));
  for (const unit of ["ChatServer@.service", "ChatServer@.socket"]) cpSync(join(UNITS, unit), join(units, unit));
  // The check wants the program to be there and does not run it.
  writeFileSync(join(root, "usr/bin/ChatServer"), "#!/bin/sh\n");
  chmodSync(join(root, "usr/bin/ChatServer"), 0o755);
  const verify = ["verify", "--recursive-errors=no", "--man=no", `--root=${root}`];
  for (const unit of ["ChatServer@6000.service", "ChatServer@6000.socket"])
    expect(await runProgram([program, ...verify, unit], {}, 30_000)).toEqual({ code: 0, output: "", errors: "" });

  const instance = join(temporaryFolder(), "ChatServer@6000.service");
  writeFileSync(instance, SERVICE);
  const { output } = await runProgram([program, "security", "--offline=true", "--no-pager", instance], {}, 30_000);
  const exposure = Number(/Overall exposure level for ChatServer@6000.service: ([\d.]+)/.exec(output)?.[1]);
  expect(exposure).toBeLessThanOrEqual(2);
});

test("the unit waits longer for the end than the server takes, and sets options that there are", () => {
  const setting = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(SERVICE)?.[1];
  const env = Object.fromEntries(
    [...SERVICE.matchAll(/^Environment=(\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
  );
  const options = readOptions(["6000"], env)!;
  expect(options.strayVariables).toEqual([]);
  expect(options.proxyProtocol).toBe(true);
  expect(setting("TimeoutStopSec")).toBe("30s");
  expect(options.drainTimeout).toBeLessThan(30);
});

test("the environment file names every option, with its help and its default", () => {
  const file = readFileSync(join(UNITS, "chatserver.env"), "utf8");
  // After a change of the options: node_modules/.bin/bun build/environment.ts
  expect(file).toBe(currentEnvironmentFile());
  const defaults = readOptions([], {})!;
  const lines = [...file.matchAll(/^#(CHAT_\w+)=(.*)$/gm)];
  expect(lines.length).toBeGreaterThan(15);
  // What is not a comment must be a commented option or nothing: the file as it ships changes nothing.
  expect(file.split("\n").filter((line) => line !== "" && !line.startsWith("#"))).toEqual([]);
  for (const [, name, value] of lines) {
    const options = readOptions([], { [name!]: value })!;
    expect(options.strayVariables).toEqual([]);
    if (name === "CHAT_PROXY_PROTOCOL") expect(options.proxyProtocol).toBe(true);
    else expect(options).toEqual(defaults);
  }
});
