// The PROXY protocol's header, versions 1 and 2: what is a header, what is none, and how it may be cut.
import { describe, expect, test } from "bun:test";
import { Networks } from "../../src/net/networks.ts";
import { MAX_BINARY_BYTES, MAX_TEXT_BYTES, ProxyFault, ProxyHeader, type ProxyResult } from "../../src/net/proxy.ts";

const SIGNATURE = "0d0a0d0a000d0a515549540a";
/** 192.0.2.7:56324 -> 198.51.100.1:8000 */
const V4 = "c0000207c6336401dc041f40";
/** [2001:db8::7]:56324 -> [2001:db8::1]:8000 */
const V6 = "20010db8000000000000000000000007" + "20010db8000000000000000000000001" + "dc041f40";

const text = (line: string): Buffer => Buffer.from(`${line}\r\n`, "latin1");

/** A version 2 header; `length` where the announced one shall differ from the body's. */
function binary(command: number, family: number, body = "", length = body.length / 2): Buffer {
  const fixed = [command, family, length >> 8, length & 255];
  return Buffer.concat([Buffer.from(SIGNATURE, "hex"), Buffer.from(fixed), Buffer.from(body, "hex")]);
}

const tlv = (type: number, bytes: number): string =>
  Buffer.concat([Buffer.from([type, bytes >> 8, bytes & 255]), Buffer.alloc(bytes, 0x0a)]).toString("hex");

/** Name, header, the client's address that it gives. */
const GOOD: [string, Buffer, string | null][] = [
  ["v1, IPv4", text("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443"), "192.168.0.1"],
  ["v1, the longest IPv4", text("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535"), "255.255.255.255"],
  ["v1, the lowest ports", text("PROXY TCP4 0.0.0.0 0.0.0.0 0 0"), "0.0.0.0"],
  ["v1, IPv6", text("PROXY TCP6 2001:db8::7 2001:db8::1 56324 8000"), "2001:db8::7"],
  ["v1, IPv6 in another spelling", text("PROXY TCP6 2001:0DB8:0:0:0:0:0:7 ::1 1 2"), "2001:db8::7"],
  [
    "v1, the longest IPv6",
    text(`PROXY TCP6 ${Array(8).fill("ffff").join(":")} ${Array(8).fill("ffff").join(":")} 65535 65535`),
    Array(8).fill("ffff").join(":"),
  ],
  ["v1, IPv4 in IPv6", text("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:127.0.0.1 1 2"), "192.0.2.7"],
  ["v1, IPv4 in IPv6 in hexadecimal", text("PROXY TCP6 ::FFFF:C000:0207 ::1 1 2"), "192.0.2.7"],
  ["v1, unknown", text("PROXY UNKNOWN"), null],
  ["v1, unknown with addresses", text("PROXY UNKNOWN 192.0.2.7 192.0.2.8 1 2"), null],
  ["v1, unknown with anything", text("PROXY UNKNOWN \xff\r \n{}\0 x"), null],
  ["v1, the longest of all", text(`PROXY UNKNOWN ${"f".repeat(MAX_TEXT_BYTES - 16)}`), null],
  ["v2, IPv4", binary(0x21, 0x11, V4), "192.0.2.7"],
  ["v2, IPv6", binary(0x21, 0x21, V6), "2001:db8::7"],
  ["v2, IPv4 in IPv6", binary(0x21, 0x21, `00000000000000000000ffffc0000207${V6.slice(32)}`), "192.0.2.7"],
  ["v2, IPv4 with TLVs", binary(0x21, 0x11, V4 + tlv(0x04, 0) + tlv(0x05, 128) + tlv(0xea, 300)), "192.0.2.7"],
  ["v2, IPv6 with TLVs", binary(0x21, 0x21, V6 + tlv(0x20, 500)), "2001:db8::7"],
  ["v2, what follows the addresses is no TLV", binary(0x21, 0x11, `${V4}ff`), "192.0.2.7"],
  ["v2, local", binary(0x20, 0x00), null],
  ["v2, local with a family and addresses", binary(0x20, 0x11, V4), null],
  ["v2, local with a family that does not exist", binary(0x20, 0xff, "00"), null],
  ["v2, unspecified", binary(0x21, 0x00), null],
  ["v2, unspecified with anything", binary(0x21, 0x00, tlv(0x04, 200)), null],
  ["v2, an IPv4 protocol that is not specified", binary(0x21, 0x10, V4), null],
  ["v2, the longest", binary(0x21, 0x11, V4 + tlv(0x04, MAX_BINARY_BYTES - 16 - 12 - 3)), "192.0.2.7"],
];

/** Name, bytes, what the fault says. */
const BAD: [string, Buffer, RegExp][] = [
  ["a length-prefixed message", Buffer.from('\0\0\0\x0e{"msgId":1012}'), /no PROXY header/],
  ["a text message", Buffer.from('{"msgId":1012}\n'), /no PROXY header/],
  ["a NUL", Buffer.from([0]), /no PROXY header/],
  ["another word", Buffer.from("POST"), /no PROXY header/],
  ["lower case", text("proxy TCP4 1.2.3.4 1.2.3.4 1 2"), /no PROXY header/],
  ["PROXY without its space", Buffer.from("PROXYX"), /no PROXY header/],
  ["a line feed for the line's end", Buffer.from("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"), /must end with CR LF/],
  ["UNKNOWN ended by a line feed", Buffer.from("PROXY UNKNOWN\n"), /must end with CR LF/],
  ["a carriage return for the line's end", Buffer.from(`PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r${"x".repeat(80)}`), /107/],
  ["a line of 108 bytes", text(`PROXY UNKNOWN ${"f".repeat(MAX_TEXT_BYTES - 15)}`), /107/],
  ["a line without end", Buffer.from(`PROXY TCP4 ${"1".repeat(200)}`), /107/],
  ["nothing in the line", text("PROXY "), /malformed/],
  ["UNKNOWN with a tail", text("PROXY UNKNOWNS 1.2.3.4"), /malformed/],
  ["another family", text("PROXY UDP4 1.2.3.4 1.2.3.4 1 2"), /malformed/],
  ["two spaces", text("PROXY TCP4  1.2.3.4 1.2.3.4 1 2"), /malformed/],
  ["a trailing space", text("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 "), /malformed/],
  ["a port too few", text("PROXY TCP4 1.2.3.4 1.2.3.4 1"), /malformed/],
  ["a word too many", text("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3"), /malformed/],
  ["a port over 65535", text("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2"), /port/],
  ["a port with a heading zero", text("PROXY TCP4 1.2.3.4 1.2.3.4 1 02"), /port/],
  ["a signed port", text("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2"), /malformed/],
  ["a number of an address over 255", text("PROXY TCP4 1.2.3.256 1.2.3.4 1 2"), /TCP4 addresses/],
  ["a heading zero in an address", text("PROXY TCP4 01.2.3.4 1.2.3.4 1 2"), /TCP4 addresses/],
  ["a short address", text("PROXY TCP4 1.2.3 1.2.3.4 1 2"), /TCP4 addresses/],
  ["a wrong destination", text("PROXY TCP4 1.2.3.4 localhost 1 2"), /TCP4 addresses/],
  ["IPv6 as TCP4", text("PROXY TCP4 ::1 ::1 1 2"), /TCP4 addresses/],
  ["IPv4 as TCP6", text("PROXY TCP6 1.2.3.4 1.2.3.4 1 2"), /TCP6 addresses/],
  ["two double colons", text("PROXY TCP6 1::2::3 ::1 1 2"), /TCP6 addresses/],
  ["a group of five digits", text("PROXY TCP6 00001::1 ::1 1 2"), /TCP6 addresses/],
  ["a scope", text("PROXY TCP6 fe80::1%eth0 ::1 1 2"), /TCP6 addresses/],
  ["brackets", text("PROXY TCP6 [::1] ::1 1 2"), /TCP6 addresses/],
  ["half a signature", Buffer.from("0d0a0d0a000d0b", "hex"), /no PROXY header/],
  ["version 1 in binary", binary(0x11, 0x11, V4), /version and command 0x11/],
  ["version 3", binary(0x31, 0x11, V4), /version and command 0x31/],
  ["a command that does not exist", binary(0x22, 0x11, V4), /version and command 0x22/],
  ["UDP over IPv4", binary(0x21, 0x12, V4), /0x12/],
  ["UDP over IPv6", binary(0x21, 0x22, V6), /0x22/],
  ["a UNIX socket", binary(0x21, 0x31, "61".repeat(216)), /0x31/],
  ["a UNIX socket, unspecified protocol", binary(0x21, 0x30, "61".repeat(216)), /0x30/],
  ["a family that does not exist", binary(0x21, 0x41, V4), /0x41/],
  ["a protocol that does not exist", binary(0x21, 0x13, V4), /0x13/],
  ["no room for IPv4 addresses", binary(0x21, 0x11, V4.slice(2)), /too short/],
  ["no room for IPv6 addresses", binary(0x21, 0x21, V6.slice(2)), /too short/],
  ["a header over the limit", binary(0x21, 0x11, V4, MAX_BINARY_BYTES - 15), /too long/],
  ["a local header over the limit", binary(0x20, 0x00, "", 65_535), /too long/],
];

const FOLLOWING = Buffer.from('\0\0\0\x0e{"msgId":1012}');

/** Pushes the pieces; the first that is not null, and the rest of the stream behind it. */
function read(pieces: Buffer[]): { result: ProxyResult | ProxyFault | null; rest: Buffer } {
  const header = new ProxyHeader();
  for (const [i, piece] of pieces.entries()) {
    const result = header.push(piece);
    if (result === null) continue;
    const rest = result instanceof ProxyFault ? [] : [result.rest, ...pieces.slice(i + 1)];
    return { result, rest: Buffer.concat(rest) };
  }
  return { result: null, rest: Buffer.alloc(0) };
}

const bytesOf = (buffer: Buffer): Buffer[] => Array.from(buffer, (_, i) => buffer.subarray(i, i + 1));

/** A generator of its own, so that a failure can be repeated. */
function* random(seed: number): Generator<number, never> {
  for (let x = seed; ; ) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    yield x;
  }
}

describe("a header", () => {
  test.each(GOOD)("%s", (_, header, address) => {
    expect(read([header]).result).toEqual({ address, rest: Buffer.alloc(0) });
  });

  test.each(GOOD)("%s: cut anywhere, with the first message behind it", (_, header, address) => {
    const stream = Buffer.concat([header, FOLLOWING]);
    for (let cut = 0; cut <= stream.length; cut++) {
      const { result, rest } = read([stream.subarray(0, cut), stream.subarray(cut)]);
      expect(result).toMatchObject({ address });
      if (!rest.equals(FOLLOWING)) throw new Error(`cut at ${cut}: ${rest.toString("hex")} follows`);
    }
    const { result, rest } = read(bytesOf(stream));
    expect(result).toMatchObject({ address });
    expect(rest).toEqual(FOLLOWING);
  });

  test.each(GOOD)("%s: no part of it is a header yet, and none is a fault", (_, header) => {
    expect(read(bytesOf(header.subarray(0, -1))).result).toBeNull();
    for (let length = 0; length < header.length; length++)
      expect(new ProxyHeader().push(header.subarray(0, length))).toBeNull();
  });

  test("a chunk of any size may follow it", () => {
    const following = Buffer.alloc(1 << 20, "x");
    const { result, rest } = read([Buffer.concat([GOOD[0]![1], following])]);
    expect(result).toMatchObject({ address: "192.168.0.1" });
    expect(rest.equals(following)).toBe(true);
  });

  test("one header is read: a second one is what follows", () => {
    const second = text("PROXY TCP4 6.6.6.6 6.6.6.6 6 6");
    const { result, rest } = read([Buffer.concat([GOOD[0]![1], second])]);
    expect(result).toMatchObject({ address: "192.168.0.1" });
    expect(rest).toEqual(second);
  });
});

describe("no header", () => {
  test.each(BAD)("%s", (_, bytes, reason) => {
    for (const pieces of [[bytes], bytesOf(bytes)]) {
      const { result } = read(pieces);
      expect(result).toBeInstanceOf(ProxyFault);
      expect((result as ProxyFault).reason).toMatch(reason);
    }
  });

  test("any single byte that cannot begin one is a fault at once", () => {
    for (let byte = 0; byte < 256; byte++) {
      const result = new ProxyHeader().push(Buffer.from([byte]));
      if (byte === 0x50 || byte === 0x0d) expect(result).toBeNull();
      else expect(result).toBeInstanceOf(ProxyFault);
    }
  });

  test("every byte of every header changed to every other value: a header, a fault or not enough, however it is cut", () => {
    let faults = 0;
    for (const [, header] of GOOD) {
      const stream = Buffer.concat([header, FOLLOWING]);
      for (let at = 0; at < Math.min(header.length, 64); at++)
        for (let value = 0; value < 256; value += value === stream[at]! - 1 ? 2 : 1) {
          const changed = Buffer.from(stream);
          changed[at] = value;
          const whole = read([changed]);
          if (whole.result instanceof ProxyFault) faults++;
          const halves = read([changed.subarray(0, at + 1), changed.subarray(at + 1)]);
          expect(outcome(halves)).toBe(outcome(whole));
        }
    }
    expect(faults).toBeGreaterThan(10_000);
  }, 60_000);

  test("random bytes behind a good beginning: never an exception, never an address that is none", () => {
    const next = random(20_240_817);
    for (let round = 0; round < 20_000; round++) {
      const [, header] = GOOD[next.next().value % GOOD.length]!;
      const bytes = Buffer.from(header.subarray(0, 200));
      for (let i = next.next().value % 6; i >= 0; i--)
        bytes[next.next().value % bytes.length] = next.next().value >>> 8;
      const pieces: Buffer[] = [];
      for (let at = 0; at < bytes.length; ) {
        const end = at + 1 + (next.next().value % 40);
        pieces.push(bytes.subarray(at, end));
        at = end;
      }
      const { result } = read(pieces);
      expect(outcome(read([bytes]))).toBe(outcome(read(pieces)));
      if (result !== null && !(result instanceof ProxyFault) && result.address !== null)
        expect(Networks.parse(result.address)).toBeDefined();
    }
  });
});

/** In words that can be compared, also where the cut decides what is found wrong first. */
function outcome({ result, rest }: ReturnType<typeof read>): string {
  if (result === null || result instanceof ProxyFault) return result === null ? "incomplete" : "fault";
  return `${result.address} ${rest.toString("hex")}`;
}

describe("networks", () => {
  const DEFAULT = "127.0.0.0/8,::1/128";

  test.each([
    [DEFAULT, "127.0.0.1", true],
    [DEFAULT, "127.255.255.255", true],
    [DEFAULT, "126.255.255.255", false],
    [DEFAULT, "128.0.0.0", false],
    [DEFAULT, "::1", true],
    [DEFAULT, "::2", false],
    [DEFAULT, "::", false],
    [DEFAULT, "::ffff:127.0.0.1", true],
    [DEFAULT, "::ffff:128.0.0.1", false],
    ["10.1.2.3", "10.1.2.3", true],
    ["10.1.2.3", "10.1.2.4", false],
    ["10.1.2.3/32", "10.1.2.3", true],
    ["10.1.2.128/25", "10.1.2.127", false],
    ["10.1.2.128/25", "10.1.2.128", true],
    ["10.1.2.200/25", "10.1.2.129", true],
    ["fd00::/8", "fdff::1", true],
    ["fd00::/8", "fe00::1", false],
    ["2001:db8:0:8000::/49", "2001:db8:0:7fff::", false],
    ["2001:db8:0:8000::/49", "2001:DB8:0:8000::", true],
    ["0.0.0.0/0", "8.8.8.8", true],
    ["0.0.0.0/0", "2001:db8::1", false],
    ["::/0", "2001:db8::1", true],
    [" 10.0.0.0/8 , fd00::/8 ", "10.9.9.9", true],
    [DEFAULT, "", false],
    [DEFAULT, "localhost", false],
  ])("%s and %s: %p", (networks, address, expected) => {
    expect(Networks.parse(networks)!.has(address)).toBe(expected);
  });

  test.each([
    "",
    ",",
    "127.0.0.0/8,",
    "all",
    "localhost",
    "10.0.0.0/33",
    "::1/129",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "10.0.0.0/8/8",
    "10.0.0/8",
    "010.0.0.0/8",
    "fe80::1%eth0",
    "10.0.0.0/8;fd00::/8",
    "10.0.0.0/8 fd00::/8",
  ])("%p is no list of networks", (text) => {
    expect(Networks.parse(text)).toBeUndefined();
  });
});
