// ./ChatServer as a program: its flags, its start from anywhere, what it says and what it keeps to itself.
import { expect, test } from "bun:test";
import { constants, copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { dirname, join } from "node:path";
import { version } from "../../package.json" with { type: "json" };
import { MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, CHEAP_PASSWORDS, runProgram, startAs, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, Wire } from "../wire.ts";

const newFile = () => join(temporaryFolder(), "chat.db");
const run = (args: string[], env: Record<string, string> = {}) =>
  runProgram([CHAT_SERVER, ...args], { env: { HOME: temporaryFolder(), ...env } });

test("--version says version and commit, --help every flag; both on standard output", async () => {
  for (const flag of ["--version", "-v"]) {
    const { code, output, errors } = await run([flag]);
    expect([code, errors]).toEqual([0, ""]);
    const [, number, commit] = /^ChatServer (\S+) \((\S+)\)\n$/.exec(output)!;
    expect(number).toBe(version);
    expect(commit).toMatch(/^([0-9a-f]{7,}(-dirty)?|unknown)$/);
  }
  for (const flag of ["--help", "-h"]) {
    const { code, output, errors } = await run([flag]);
    expect([code, errors]).toEqual([0, ""]);
    for (const option of ["--host", "--data", "--max-frame", "--drain-timeout", "--log-level", "$CHAT_LOG_LEVEL"])
      expect(output).toContain(option);
  }
});

const ASKED = ["ChatServer --version", "ChatServer --help", "ChatServer copy --help", "ChatClient -v", "ChatClient -h"];
test.each(ASKED)(
  "%s that cannot be written is one line and exit code 1; that nobody reads is none",
  async (command) => {
    const inShell = (script: string) => runProgram(["bash", "-c", script], { cwd: dirname(CHAT_SERVER) });
    const { code, errors } = await inShell(`./${command} >/dev/full`);
    expect(code).toBe(1);
    expect(errors).toMatch(/^Chat(Server|Client): cannot write to standard output \(ENOSPC\)\n$/);
    expect(await inShell(`exec 3> >(exec true); wait $!; ./${command} >&3`)).toEqual({
      code: 0,
      output: "",
      errors: "",
    });
  },
);

test.each([
  [["--max-frame", "1"], {}, /^--max-frame: "1" is not a size from 1024 to 16777215 bytes/],
  [["--max-frame"], {}, /--max-frame/],
  [["--log-level", "loud"], {}, /^--log-level: "loud" is not one of error, warn, info, debug/],
  [["--drain-timeout=0"], {}, /^--drain-timeout: "0" is not a time from 1 to 3600 seconds/],
  [["--nonsense"], {}, /--nonsense.*--help/],
  [["-x"], {}, /-x.*--help/],
  [["70000"], {}, /^port: "70000" is not a number from 0 to 65535/],
  [["6000", "6001"], {}, /^unexpected "6001"/],
  [["--host", "a", "--host", "b"], {}, /^--host: given more than once/],
  [[], { CHAT_MAX_FRAME: "0" }, /^CHAT_MAX_FRAME: "0" is not a size from 1024 to/],
  [[], { CHAT_PORT: "x" }, /^CHAT_PORT: "x" is not a number/],
] as [string[], Record<string, string>, RegExp][])("%p %p: one line and exit code 2", async (args, env, says) => {
  const { code, output, errors } = await run(args, env);
  expect([code, output]).toEqual([2, ""]);
  expect(errors).toMatch(/^ChatServer: [^\n]+\n$/);
  expect(errors.slice("ChatServer: ".length)).toMatch(says);
});

/** The start is refused with one line; returns that. */
async function refusal(args: string[], prefix: string[] = []): Promise<string> {
  const { code, output, errors } = await runProgram([...prefix, CHAT_SERVER, "--data", newFile(), ...args]);
  expect([code, output]).toEqual([1, ""]);
  expect(errors).toMatch(/^ChatServer: [^\n]+\n$/);
  return errors;
}

test("a port that is taken, a port without permission, an address of another machine: one line and exit code 1", async () => {
  const server = await startServer(newFile());
  expect(await refusal([String(server.port), "--host", "127.0.0.1"])).toContain(
    `port ${server.port} is already in use on 127.0.0.1: stop the program that listens there, or give another port`,
  );
  await server.stop();
  for (const host of ["192.0.2.1", "nowhere.invalid"])
    expect(await refusal(["0", "--host", host])).toContain(`${host} is not an address of this machine`);

  const free = Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8"));
  const asOthers = process.getuid!() === 0 ? ["setpriv", "--bounding-set=-net_bind_service"] : [];
  // Where the system gives every port to everybody, 1 is as good as any.
  if (free > 1)
    expect(await refusal(["1", "--host", "127.0.0.1"], asOthers)).toContain("no permission to listen on port 1: ");
  else await (await startServer(newFile(), CHEAP_PASSWORDS, 1)).stop();
});

test("the runtime's settings are the unit's, except where others are given", async () => {
  const unit = readFileSync(join(import.meta.dir, "../../systemd/ChatServer@.service"), "utf8");
  const units = [...unit.matchAll(/^Environment=((?:MIMALLOC|BUN_JSC)_.*)$/gm)].map(([, setting]) => setting!);
  expect(units).not.toBeEmpty();
  for (const given of [[], ["MIMALLOC_PURGE_HOLES_MIN_INTERVAL=100"], units.slice(1)]) {
    const env = Object.fromEntries(given.map((setting) => setting.split("=")));
    const server = await startAs(["bash", "-c", 'exec -a "its name" "$@"', "", CHAT_SERVER, "0", "--data", newFile()], {
      env: { HOME: temporaryFolder(), OTHER: "as it was", ...env },
    });
    const read = (name: string) => readFileSync(`/proc/${server.pid}/${name}`, "utf8").split("\0");
    const settings = read("environ").filter((each) => /^(MIMALLOC|BUN_JSC)_/.test(each));
    const kept = units.filter((setting) => env[setting.split("=")[0]!] === undefined);
    expect(settings.toSorted()).toEqual([...kept, ...given].toSorted());
    expect(read("environ")).toContain("OTHER=as it was");
    expect(read("cmdline").slice(0, 3)).toEqual(["its name", "0", "--data"]);
    expect(await server.stop()).toBe(0);
  }
});

test("alone in a strange folder, without an environment: it starts, and reads nothing that lies there", async () => {
  const home = temporaryFolder();
  const executable = join(home, "ChatServer");
  copyFileSync(CHAT_SERVER, executable, constants.COPYFILE_FICLONE);
  const cwd = temporaryFolder();
  writeFileSync(join(cwd, ".env"), "CHAT_LOG_LEVEL=nonsense\nCHAT_NONSENSE=1\n");
  writeFileSync(join(cwd, "bunfig.toml"), 'preload = ["./gone.ts"]\n[test]\npreload = ["./gone.ts"]\n');
  writeFileSync(join(cwd, "package.json"), "no JSON");
  writeFileSync(join(cwd, "tsconfig.json"), "no JSON");
  mkdirSync(join(cwd, "node_modules", "consola"), { recursive: true });
  writeFileSync(join(cwd, "node_modules", "consola", "index.js"), "process.exit(3)");
  const startedAt = performance.now();
  const server = await startAs([executable, "0", "--host", "127.0.0.1", "--data", "chat.db"], { cwd, env: {} });
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  await login(server.port, await register(server.port));
  expect(server.log()).toContain(`store: SQLite ${join(cwd, "chat.db")}\n`);
  expect(server.log()).not.toMatch(/WARN|ERROR/);
  expect(await server.stop()).toBe(0);
});

test("nohup: SIGHUP ends nothing", async () => {
  const server = await startServer(newFile(), [], 0, { prefix: ["env", "--ignore-signal=HUP"] });
  process.kill(server.pid, "SIGHUP");
  expect(await server.stop()).toBe(0);
  expect(server.log()).toContain("SIGTERM: draining");
  expect(server.log()).not.toContain("SIGHUP");
});

test("the last changes of a file that was moved away are not lost with a new one in its place", async () => {
  const data = newFile();
  await (await startServer(data)).stop();
  renameSync(data, `${data}.old`);
  writeFileSync(`${data}-wal`, "changes");
  const next = await startServer(data);
  await register(next.port);
  expect(await next.stop()).toBe(0);
  const aside = / WARN +\S+-wal holds the last changes .* renamed to (\S+);/.exec(next.log())![1]!;
  expect(readFileSync(aside).toString()).toBe("changes");
});

test("the database is where --data, CHAT_DATA, systemd, XDG or the home folder says, in this order", async () => {
  const places = ["flag", "variable", "state", "xdg", "home"].map((name) => join(temporaryFolder(), name));
  const [flag, variable, state, xdg, home] = places as [string, string, string, string, string];
  const env = { CHAT_DATA: variable, STATE_DIRECTORY: state, XDG_DATA_HOME: xdg, HOME: home, CHAT_PORT: "0" };
  const { CHAT_DATA: _, ...withoutData } = env;
  const { STATE_DIRECTORY: __, ...withoutState } = withoutData;
  const { XDG_DATA_HOME: ___, ...withoutXdg } = withoutState;
  for (const [args, environment, file] of [
    [["--data", flag], env, flag],
    [[], env, variable],
    [[], withoutData, join(state, "chat.db")],
    [[], withoutState, join(xdg, "chatserver", "chat.db")],
    [[], withoutXdg, join(home, ".local", "share", "chatserver", "chat.db")],
  ] as [string[], Record<string, string>, string][]) {
    const server = await startAs([CHAT_SERVER, ...args], { env: environment });
    expect(server.log()).toContain(`store: SQLite ${file}\n`);
    await server.stop();
    expect(readFileSync(file).subarray(0, 15).toString()).toBe("SQLite format 3");
  }
});

test("the start says version, store, limits and address, one line per event, without colours", async () => {
  const data = newFile();
  const server = await startServer(data, ["--max-frame", "128k", "--max-connections", "100"], 0, {
    env: { FORCE_COLOR: "1", CLICOLOR_FORCE: "1", TERM: "xterm-256color", CHAT_NONSENSE: "1" },
  });
  await server.stop();
  const lines = server.log().split("\n");
  const time = "\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d";
  for (const each of lines.slice(0, -1)) expect(each).toMatch(new RegExp(`^${time} (INFO |WARN ) \\S`));
  const said = (text: string) => expect(lines.filter((line) => line.includes(text))).toHaveLength(1);
  said(`ChatServer ${version} (`);
  said(`process ${server.pid}`);
  said(`store: SQLite ${data}`);
  said("limits: 100 connections, 131072 bytes per message, 1024 requests in flight");
  said(`listening on 127.0.0.1:${server.port}`);
  said("WARN  CHAT_NONSENSE is not an option: see --help");
  said("SIGTERM: draining 0 connections");
  said("stopped");
});

const hasIpv6 = Object.values(networkInterfaces()).some((each) => each!.some(({ address }) => address === "::1"));
test.skipIf(!hasIpv6)("an IPv6 address is told in brackets", async () => {
  const server = await startAs([CHAT_SERVER, "0", "--host", "::1", "--data", newFile()]);
  await server.stop();
  expect(server.log()).toContain(`listening on [::1]:${server.port}\n`);
});

test("a user without a home gives a file, or needs none", async () => {
  const prefix = ["unshare", "--user", "--map-user=23456", "env", "-u", "HOME"];
  const homeless = (...args: string[]) =>
    runProgram([CHAT_SERVER, ...args], { prefix, env: { PATH: process.env.PATH } });
  const refusal = { code: 2, output: "", errors: "ChatServer: --data: there is no home directory, give a file\n" };
  const shared = "mysql://u:p@127.0.0.1:1/chat";
  expect(await homeless("0")).toEqual(refusal);
  expect(await homeless("import", "--from", shared)).toEqual(refusal);
  expect((await homeless("0", "--mysql", shared)).errors).toContain("does not answer");
});

test("--log-level", async () => {
  const start = (level: string, port: number) =>
    startServer(newFile(), [...CHEAP_PASSWORDS, "--log-level", level], port, { env: { CHAT_NONSENSE: "1" } });
  const debug = await start("debug", 0);
  await login(debug.port, await register(debug.port));
  await debug.stop();
  expect(debug.log()).toMatch(/ DEBUG user 1 logged in from 127\.0\.0\.1\n/);
  const info = await start("info", 0);
  await login(info.port, await register(info.port));
  await info.stop();
  expect(info.log()).toMatch(/ INFO {2}user 1 registered\n/);
  expect(info.log()).not.toContain("DEBUG");

  for (const [level, words] of [
    ["warn", ["WARN"]],
    ["error", []],
  ] as [string, string[]][]) {
    const command = [CHAT_SERVER, "0", "--host", "127.0.0.1", "--data", newFile(), "--log-level", level];
    const { code, output, errors } = await runProgram(["timeout", "--preserve-status", "1", ...command], {
      env: { CHAT_NONSENSE: "1" },
    });
    expect([code, output]).toEqual([0, ""]);
    expect([...errors.matchAll(/ (DEBUG|INFO|WARN|ERROR) /g)].map(([, word]) => word)).toEqual(words);
  }
});

test("no password, token or text reaches the log", async () => {
  const server = await startServer(newFile(), [...CHEAP_PASSWORDS, "--log-level", "debug", "--max-frame", "4096"]);
  const SECRET = "s3cr3t";
  const user = await register(server.port, `${SECRET}-password`);
  const other = await register(server.port, `${SECRET}-password`);
  const wire = await login(server.port, user);
  const token = wire.answer.token as string;
  const asks = [
    { msgId: MsgId.chat, toid: other.id, msg: `${SECRET} text` },
    { msgId: MsgId.chat, toid: 4711, msg: `${SECRET} text` },
    { msgId: MsgId.chat, toid: other.id, msg: `${SECRET} text`, mid: "1" },
    { msgId: MsgId.chat, toid: other.id, msg: `${SECRET} other`, mid: "1" },
    { msgId: MsgId.chat, toid: `${SECRET}`, msg: `${SECRET} text` },
    { msgId: MsgId.addFriend, friendId: other.id, msg: `${SECRET} text` },
    { msgId: MsgId.createGroup, groupname: "g", groupdesc: `${SECRET} text` },
    { msgId: MsgId.groupChat, groupid: 1, msg: `${SECRET} text` },
    { msgId: 4711, msg: `${SECRET} text` },
    { msgId: MsgId.login, id: user.id, password: `${SECRET}-password` },
    { msgId: MsgId.logout },
    { msgId: MsgId.login, id: user.id, password: `${SECRET}-wrong` },
    { msgId: MsgId.login, id: user.id, token: `${SECRET}.1.1.${SECRET}` },
    { msgId: MsgId.login, id: user.id, token },
    { msgId: MsgId.register, name: `${SECRET}`, password: SECRET.repeat(100) },
  ];
  for (const ask of asks) await wire.ask(ask);
  const broken = await Wire.connect(server.port, "lf");
  broken.raw(`{"msgId":1002,"id":1,"password":"${SECRET}\n`.repeat(20));
  await broken.whenEnded();
  const large = await Wire.connect(server.port, "lf");
  large.raw(JSON.stringify({ msgId: MsgId.register, name: "x", password: SECRET.repeat(2_000) }));
  await large.whenEnded();
  await server.stop();
  expect(server.log()).toContain("logged in");
  expect(server.log()).not.toContain(SECRET);
  expect(server.log()).not.toContain(token.slice(-20));
});

/** A server whose log is read up to the line that it listens, and then by `and`, which lives as long as the server. */
const withReader = (and: string) =>
  startAs([
    "bash",
    "-c",
    `exec "$@" > >(sed -u '/listening/q'${and})`,
    "bash",
    ...[CHAT_SERVER, "0", "--host", "127.0.0.1", "--data", newFile(), "--log-level", "debug", ...CHEAP_PASSWORDS],
  ]);

test("a log whose reader is gone, and one that nobody reads on, hold nothing up", async () => {
  for (const and of ["", "; tail --pid=$$ -f /dev/null"]) {
    const server = await withReader(and);
    const user = await register(server.port);
    const wire = await login(server.port, user);
    const { token } = wire.answer;
    // More lines than a pipe takes.
    const rounds = Array.from({ length: 1_200 }, () => [
      { msgId: MsgId.logout },
      { msgId: MsgId.login, id: user.id, token },
    ]);
    wire.send(...rounds.flat());
    await until(() => wire.received.length === 2_400, "all answers", 20_000);
    await register(server.port);
    expect(await server.stop()).toBe(0);
  }
});
