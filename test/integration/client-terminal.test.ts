// ./ChatClient on a terminal: questions, what arrives while a line is typed, a take-over, a connection that breaks.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import { CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { login, register, type User } from "../wire.ts";
import { endClients, logInLine, Typist } from "./client-process.ts";
import { Tunnel } from "./stand-ins.ts";

let server: RunningServer;

beforeAll(async () => {
  server = await startServer(join(temporaryFolder(), "chat.db"));
});

afterAll(async () => {
  endClients();
  await server.stop();
});

/** Somebody who is logged in, and whose connection is gone and does not come back while the tunnel refuses. */
async function cutOff(): Promise<{ tunnel: Tunnel; typist: Typist; bob: User }> {
  const tunnel = await Tunnel.to(server.port);
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const typist = new Typist(tunnel.port);
  await typist.sees("1 log in");
  typist.type(logInLine(ann).trim());
  await typist.sees("Logged in as ");
  tunnel.refusing = true;
  tunnel.cut();
  await typist.sees("No connection");
  return { tunnel, typist, bob };
}

test("on a terminal: register and log in by questions, chat, log out", async () => {
  const ann = new Typist(server.port);
  const name = `ann${process.pid}`;
  await ann.sees("1 log in");
  ann.type("2");
  await ann.answers("Name (up to", name);
  await ann.answers("Password (at least", "s3cret-word");
  await ann.answers("Repeat the password: ", "s3cret-word");
  const welcome = await ann.sees("Logged in as ");
  expect(ann.shown).not.toContain("s3cret");
  await ann.sees("No groups yet", welcome);
  const id = Number(/your id is (\d+)/.exec(ann.shown)![1]);
  // Somebody writes while a line is being typed: it appears above, and the line stays.
  const bob = await register(server.port);
  const wire = await login(server.port, bob);
  const typed = `chat:${bob.id}:half typed, and longer than the sixty columns of this terminal`;
  ann.type(typed, "");
  await ann.sees("of this terminal");
  await wire.ask({ msgId: MsgId.chat, toid: id, msg: "are you there", mid: "1" });
  const arrived = await ann.sees("are you there");
  await ann.sees(typed.slice(0, 30), arrived);
  ann.type(" yes");
  expect((await wire.push(MsgId.chat)).msg).toBe("half typed, and longer than the sixty columns of this terminal yes");
  await ann.sees("sent to ", arrived);
  const before = ann.shown.length;
  ann.type("loginout");
  await ann.sees("Logged out.", before);
  await ann.sees("1 log in", before);
  // Neither is the password in the history.
  for (let i = 0; i < 5; i++) ann.type("\u001b[A", "");
  ann.type("\u0003", "");
  ann.type("3");
  expect(await ann.exited).toBe(0);
  expect(ann.shown).not.toContain("s3cret");
  wire.close();
});

test("on a terminal: a session elsewhere is taken over when the user says so, and that one says it", async () => {
  const { id, name, password } = await register(server.port);
  const first = new Typist(server.port, { NO_COLOR: "1" });
  await first.sees("1 log in");
  first.type("1");
  await first.answers("Your id or name: ", name);
  await first.answers("Password: ", password);
  await first.sees(`Logged in as ${name} (${id})`);
  const second = new Typist(server.port);
  await second.sees("1 log in");
  second.type("1");
  await second.answers("Your id or name: ", String(id));
  await second.answers("Password: ", password);
  await second.answers("End that session? (y/n) ", "y");
  await first.sees("Logged out: you have logged in elsewhere.");
  await second.sees(/Logged in as /);
  // Colours, but for those who want none.
  expect(second.shown).toContain("\u001b[36m");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control sequences
  expect(first.shown).not.toMatch(/\u001b\[\d*m/);
  second.type("\u0004", "");
  expect(await second.exited).toBe(0);
  first.type("quit");
  expect(await first.exited).toBe(0);
});

test("answers that are pasted with the line that asks for them answer, and are no commands", async () => {
  const { name, password } = await register(server.port);
  const typist = new Typist(server.port);
  await typist.sees("1 log in");
  typist.type(`1\r${name}\r${password}`);
  await typist.sees("Logged in as ");
  for (let i = 0; i < 5; i++) typist.type("\u001b[A", "");
  typist.type("\u0003", "");
  typist.type("quit");
  expect(await typist.exited).toBe(0);
  expect(typist.shown).not.toContain("There is no command");
  // Neither on the way in nor from the history.
  expect(typist.shown).not.toContain(password);
});

test("what was typed before it is asked does not end a session elsewhere", async () => {
  const { id, name, password } = await register(server.port);
  const wire = await login(server.port, { id, name, password });
  const typist = new Typist(server.port);
  await typist.sees("1 log in");
  process.kill(server.pid, "SIGSTOP");
  typist.type(`1\r${name}\r${password}\ryes\rhalf a li`, "");
  await typist.sees("half a li");
  process.kill(server.pid, "SIGCONT");
  // Nor does a line that only begins with y.
  await typist.answers("End that session? (y/n) ", "yet another line");
  await typist.sees("half a li", await typist.sees('There is no command "yes"'));
  typist.type("ne");
  await typist.sees('There is no command "half a line"');
  expect((await wire.ask({ msgId: MsgId.heartbeat })).errno).toBe(0);
  typist.type("quit");
  expect(await typist.exited).toBe(0);
  wire.close();
});

test.each([
  ["at a command", ["nonsense", "y"], "> ", "nonsense", 'There is no command "nonsense"'],
  ["at a hidden question", ["1", "nobody at all"], "Password: ", "some-password", "error 3"],
])("Ctrl-Z and fg %s: the client goes on reading", async (_, lines, prompt, text, answer) => {
  // A shell says which job it brings back.
  const typist = new Typist(server.port, {}, '"$@"; fg');
  await typist.sees("1 log in");
  for (const line of lines) typist.type(line);
  const before = await typist.sees(prompt, await typist.sees(lines[1]!));
  typist.type("\x1a", "");
  await typist.sees(prompt, await typist.sees(/"\$\{?@\}?"/, before));
  typist.type(text);
  await typist.sees(answer, typist.shown.length);
  typist.type("quit");
  expect(await typist.exited).toBe(0);
});

test("Ctrl-Z where no shell could bring the client back: it goes on, and shows no password", async () => {
  const typist = new Typist(server.port);
  await typist.sees("1 log in");
  for (const line of ["1", "nobody at all"]) typist.type(line);
  const asked = await typist.sees("Password: ");
  typist.type("\x1a", "");
  await typist.sees("Password: ", asked + 1);
  typist.type("s3cret-word");
  await typist.sees("error 3");
  typist.type("quit");
  expect(await typist.exited).toBe(0);
  expect(typist.shown).not.toContain("s3cret");
});

test("quit says what is not known to be sent, and its exit code too", async () => {
  const { tunnel, typist } = await cutOff();
  // The second one is held up by the log-out, which waits for the first one.
  for (const line of ["chat:1:never sent", "loginout", "chat:1:held up"]) typist.type(line);
  const before = performance.now();
  typist.type("quit");
  await typist.sees("Sending what is still unsent");
  await typist.sees("2 lines may not have been sent.");
  expect(await typist.exited).toBe(1);
  // They have five seconds together.
  expect(performance.now() - before).toBeLessThan(8_000);
  expect(typist.shown).not.toContain("Warning");
  tunnel.stop();
});

test.each([
  ["ends", [], 0, ""],
  ["says what was typed behind it and is not sent", ["chat:1:too soon"], 1, "1 line may not have been sent."],
])("quit while a log-in is not answered %s", async (_, lines, code, notice) => {
  const tunnel = await Tunnel.to(server.port);
  const ann = await register(server.port);
  const typist = new Typist(tunnel.port);
  await typist.sees("1 log in");
  tunnel.frozen = true;
  typist.type(logInLine(ann).trim());
  await until(() => tunnel.swallowed > 0, "the log-in has been sent");
  for (const line of lines) typist.type(line);
  typist.type("quit");
  expect(await typist.exited).toBe(code);
  expect(typist.shown).toContain(notice);
  tunnel.stop();
});

test("a terminal that knows no commands is sent none, and shows again what has been typed", async () => {
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const typist = new Typist(server.port, { TERM: "dumb" });
  await typist.sees("1 log in");
  typist.type(logInLine(ann).trim());
  await typist.sees("Logged in as ");
  typist.type(`chat:${bob.id}:half`, "");
  await typist.sees(`chat:${bob.id}:half`);
  const before = typist.shown.length;
  const wire = await login(server.port, bob);
  await wire.ask({ msgId: MsgId.chat, toid: ann.id, msg: "in between", mid: "1" });
  await typist.sees(`chat:${bob.id}:half`, await typist.sees("in between", before));
  typist.type(" and half");
  expect((await wire.push(MsgId.chat)).msg).toBe("half and half");
  typist.type("quit");
  expect(await typist.exited).toBe(0);
  expect(typist.shown).not.toContain("\x1b");
  wire.close();
});

test("a terminal that goes away while the connection is: what was typed is sent still", async () => {
  const { tunnel, typist, bob } = await cutOff();
  typist.type(`chat:${bob.id}:typed before`);
  // Behind Enter: else it may not have come yet.
  await typist.sees(/typed before\r/);
  typist.hangUp();
  tunnel.refusing = false;
  expect(await typist.exited).toBe(0);
  const wire = await login(server.port, bob);
  expect((await wire.push(MsgId.chat)).msg).toBe("typed before");
  wire.close();
  tunnel.stop();
});

test("a connection that breaks is told once, and once when it is back; what is typed meanwhile is sent", async () => {
  const data = join(temporaryFolder(), "chat.db");
  const before = await startServer(data);
  const { port } = before;
  const ann = await register(port);
  const bob = await register(port);
  const typist = new Typist(port);
  await typist.sees("1 log in");
  typist.type(logInLine(ann).trim());
  await typist.sees("Logged in as");
  await before.stop("SIGKILL");
  await typist.sees("No connection");
  typist.type(`chat:${bob.id}:sent in between`);
  const after = await startServer(data, CHEAP_PASSWORDS, port);
  await typist.sees("sent to", await typist.sees("Reconnected."));
  expect(typist.shown.match(/No connection/g)!.length).toBe(1);
  const wire = await login(port, bob);
  expect((await wire.push(MsgId.chat)).msg).toBe("sent in between");
  typist.type("quit");
  expect(await typist.exited).toBe(0);
  wire.close();
  await after.stop();
});

test("a line that wraps is drawn again where it stands: when it was pasted, and after Ctrl-Z and fg", async () => {
  const up = "\u001b[1A";
  const typist = new Typist(server.port, {}, '"$@"; fg');
  await typist.sees("1 log in");
  typist.type("x".repeat(80), "");
  const pasted = await typist.sees("x".repeat(80));
  // Ctrl-U: its first row does not stay.
  typist.type("\u0015", "");
  const cleared = await typist.sees(`${up}\u001b[1G\u001b[0J> `, pasted);
  typist.type("y".repeat(80), "");
  await typist.sees("y".repeat(80), cleared);
  typist.type("\x1a", "");
  const back = await typist.sees(/"\$\{?@\}?"/, cleared);
  const again = await typist.sees("y".repeat(80), back);
  // What the shell has shown stays.
  expect(typist.shown.slice(back, again)).not.toContain(up);
  typist.type("\u0003", "");
  typist.type("quit");
  expect(await typist.exited).toBe(0);
});
