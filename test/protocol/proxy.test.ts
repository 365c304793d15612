// --proxy-protocol on the real server: who may say whose connection it is, and what becomes of the others.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Framing } from "../../src/net/codec.ts";
import { CHAT_SERVER, CHEAP_PASSWORDS, type RunningServer, startServer, temporaryFolder, until } from "../harness.ts";
import { Wire } from "../wire.ts";

const FLAGS = ["--log-level", "debug", ...CHEAP_PASSWORDS];
const SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
const v1 = (address: string): string =>
  `PROXY ${address.includes(":") ? "TCP6" : "TCP4"} ${address} ${address} 56324 8000\r\n`;

const servers: RunningServer[] = [];

async function start(...flags: string[]): Promise<RunningServer> {
  const server = await startServer(`${temporaryFolder()}/chat.db`, [...FLAGS, ...flags]);
  servers.push(server);
  return server;
}

afterAll(() => Promise.all(servers.map((server) => server.stop())));

/** A connection whose first bytes are `header`. */
async function connect(server: RunningServer, header: string | Uint8Array, framing?: Framing): Promise<Wire> {
  const wire = await Wire.connect(server.port, framing);
  wire.raw(header);
  return wire;
}

let users = 0;

/** Registers and logs in, and waits until the log says from where. */
async function loginFrom(server: RunningServer, wire: Wire, address: string): Promise<void> {
  const name = `user${++users}`;
  const { id } = await wire.ask({ msgId: 1000, name, password: "secret1" });
  expect(await wire.ask({ msgId: 1002, name, password: "secret1" })).toMatchObject({ errno: 0, id });
  const line = `user ${id} logged in from ${address}\n`;
  await until(() => server.log().includes(line), `"${line}" in the log:\n${server.log()}`);
}

/** The connection is closed without a byte, and the log beyond `since` says why. */
async function expectRefused(server: RunningServer, wire: Wire, reason: RegExp, since: number): Promise<void> {
  await wire.whenEnded();
  expect(wire.text).toBe("");
  await until(() => reason.test(server.log().slice(since)), `${reason} in the log:\n${server.log()}`);
}

describe("from a trusted proxy", () => {
  let server: RunningServer;

  beforeAll(async () => {
    server = await start("--proxy-protocol");
  });

  test.each([
    ["version 1, IPv4", v1("192.0.2.7"), "192.0.2.7"],
    ["version 1, IPv6", v1("2001:DB8:0:0:0:0:0:7"), "2001:db8::7"],
    ["version 1, unknown", "PROXY UNKNOWN\r\n", "127.0.0.1"],
    ["version 2, IPv4", "2111000cc0000208c63364010001 0002", "192.0.2.8"],
    ["version 2, IPv4 with TLVs", `21110012c0000209c63364010001 0002 040003ffffff`, "192.0.2.9"],
    ["version 2, IPv6", `21210024${"20010db8000000000000000000000008".repeat(2)}0001 0002`, "2001:db8::8"],
    ["version 2, local", "20000000", "127.0.0.1"],
  ])("%s: the log knows the client's address", async (_, header, address) => {
    const bytes = header.startsWith("PROXY")
      ? Buffer.from(header)
      : Buffer.concat([SIGNATURE, Buffer.from(header.replaceAll(" ", ""), "hex")]);
    const wire = await connect(server, bytes);
    await loginFrom(server, wire, address);
    wire.close();
  });

  test.each(["length", "lf", "nul"] as const)(
    "the framing (%s) is told from the byte behind the header",
    async (framing) => {
      const wire = await connect(server, v1("192.0.2.20"), framing);
      await loginFrom(server, wire, "192.0.2.20");
      wire.close();
    },
  );

  test("header and first messages in one segment, and in bytes of their own", async () => {
    const stream = Buffer.from(`${v1("192.0.2.21")}{"msgId":1012,"reqId":1}\n{"msgId":1012,"reqId":2}\n`);
    const whole = await connect(server, stream, "lf");
    for (const reqId of [1, 2]) expect(await whole.next()).toMatchObject({ ack: 1012, reqId, errno: 0 });
    await loginFrom(server, whole, "192.0.2.21");
    whole.close();
    const cut = await Wire.connect(server.port, "lf");
    for (let at = 0; at < stream.length; at++) {
      cut.raw(stream.subarray(at, at + 1));
      // Lets the byte leave before the next one comes.
      await new Promise(setImmediate);
    }
    for (const reqId of [1, 2]) expect(await cut.next()).toMatchObject({ ack: 1012, reqId, errno: 0 });
    await loginFrom(server, cut, "192.0.2.21");
    cut.close();
  });

  test("a second header is what any other text is: malformed, and changes no address", async () => {
    const wire = await connect(server, v1("192.0.2.22") + v1("203.0.113.66"), "lf");
    expect(await wire.next()).toMatchObject({ errno: 18 });
    await loginFrom(server, wire, "192.0.2.22");
    wire.close();
  });

  test("what was asked before the client's FIN is answered", async () => {
    const wire = await connect(server, `${v1("192.0.2.23")}{"msgId":1012,"reqId":1}\n`, "lf");
    wire.halfClose();
    expect(await wire.next()).toMatchObject({ ack: 1012, errno: 0 });
    await wire.whenEnded();
  });

  test.each([
    ["a message without a header", '{"msgId":1012}\n', /127\.0\.0\.1 closed: no PROXY header\n/],
    [
      "a length-prefixed message without a header",
      '\0\0\0\x0e{"msgId":1012}',
      /127\.0\.0\.1 closed: no PROXY header\n/,
    ],
    ["a malformed header", 'PROXY TCP4 256.0.0.1 1.2.3.4 1 2\r\n{"msgId":1012}\n', /closed: .*TCP4 addresses\n/],
    ["a line that does not end", `PROXY TCP4 ${" ".repeat(200)}`, /closed: no line end within 107 bytes\n/],
    ["a UNIX socket", `${SIGNATURE.toString("latin1")}\x21\x31\0\xd8${"a".repeat(216)}`, /closed: .*0x31/],
    ["a long header", `${SIGNATURE.toString("latin1")}\x21\x11\xff\xff`, /closed: .*too long\n/],
  ])("%s: closed without an answer, and the log says why", async (_, bytes, reason) => {
    expect(server.log()).toContain("::1/128; connections without one are closed\n");
    const since = server.log().length;
    await expectRefused(server, await connect(server, Buffer.from(bytes, "latin1")), reason, since);
  });

  test("an end before the header is complete", async () => {
    const since = server.log().length;
    const wire = await connect(server, "PROXY TCP4 1.2");
    wire.halfClose();
    await expectRefused(server, wire, /closed: ended before its PROXY header\n/, since);
  });

  test("a header that does not come: closed after seconds; one that takes its time is taken", async () => {
    const began = performance.now();
    const since = server.log().length;
    const silent = await Wire.connect(server.port);
    const half = await connect(server, v1("192.0.2.24").slice(0, 20));
    const late = await connect(server, v1("192.0.2.25").slice(0, 20));
    await Bun.sleep(2_000);
    late.raw(v1("192.0.2.25").slice(20));
    await loginFrom(server, late, "192.0.2.25");
    const reason = /(closed: no PROXY header within 5000 ms\n.*){2}/s;
    await expectRefused(server, silent, reason, since);
    await expectRefused(server, half, reason, since);
    expect(performance.now() - began).toBeGreaterThan(4_500);
    await late.settle();
    expect(late.ended).toBe(false);
    late.close();
  });
});

describe("from anybody else", () => {
  test("a network that is not trusted is closed, whatever it sends, and can forge nothing", async () => {
    const server = await start("--proxy-protocol", "--trust-proxy", "10.0.0.0/8,::1/128");
    const reason = /connection from 127\.0\.0\.1 closed: not one of the trusted proxies \(10\.0\.0\.0\/8,::1\/128\)\n/;
    for (const bytes of ["", `${v1("10.0.0.1")}{"msgId":1012}\n`, '{"msgId":1012}\n']) {
      const since = server.log().length;
      // The reset may come before the client knows that it was connected.
      const wire = await connect(server, bytes).catch(() => null);
      await wire?.whenEnded();
      expect(wire?.text ?? "").toBe("");
      await until(() => reason.test(server.log().slice(since)), `${reason} in the log:\n${server.log()}`);
    }
    expect(server.log()).not.toContain("from 10.0.0.1");
  });

  test("without --proxy-protocol a header is malformed text, and the socket's address counts", async () => {
    const server = await start("--trust-proxy", "127.0.0.1");
    const wire = await connect(server, v1("203.0.113.66"), "lf");
    expect(await wire.next()).toMatchObject({ errno: 18 });
    await loginFrom(server, wire, "127.0.0.1");
    expect(server.log()).not.toContain("203.0.113.66");
    wire.close();
  });
});

test("above --max-connections the header is read too, and the first request refused", async () => {
  const server = await start("--proxy-protocol", "--max-connections", "1");
  const first = await connect(server, v1("192.0.2.30"));
  await first.settle();
  const second = await connect(server, v1("192.0.2.31"));
  expect(await second.ask({ msgId: 1012 })).toMatchObject({ errno: 16, retryAfterMs: expect.any(Number) });
  await second.whenEnded();
  // Refused proxies' connections count for nothing.
  await first.settle();
  first.close();
});

test("SIGTERM does not wait for headers", async () => {
  const server = await start("--proxy-protocol");
  const silent = await Wire.connect(server.port);
  const half = await connect(server, "PROXY TCP4 1.2");
  const whole = await connect(server, v1("192.0.2.32"));
  await whole.settle();
  expect(await server.stop()).toBe(0);
  expect(await whole.next()).toMatchObject({ msgId: 1028, errno: 20 });
  for (const wire of [silent, half, whole]) await wire.whenEnded();
});

describe("the flags", () => {
  test.each([
    [["--trust-proxy", "10.0.0.0/33"], {}, /^ChatServer: --trust-proxy: "10\.0\.0\.0\/33" is not a list of networks/],
    [[], { CHAT_TRUST_PROXY: "loopback" }, /^ChatServer: CHAT_TRUST_PROXY: "loopback" is not a list of networks/],
    [["--proxy-protocol=perhaps"], {}, /^ChatServer: --proxy-protocol: "perhaps" is not /],
    [[], { CHAT_PROXY_PROTOCOL: "on" }, /^ChatServer: CHAT_PROXY_PROTOCOL: "on" is not /],
    [["--proxy-protocol", "--tls-cert", "c", "--tls-key", "k"], {}, /^ChatServer: --proxy-protocol: .* TLS/],
  ])("%p with %p is refused", (flags, env, error) => {
    const { exitCode, stderr } = Bun.spawnSync([CHAT_SERVER, "0", ...flags], {
      env: { ...env, HOME: temporaryFolder() },
    });
    expect(stderr.toString()).toMatch(error);
    expect(exitCode).toBe(2);
  });
});
