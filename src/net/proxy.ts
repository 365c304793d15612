// The header by which a proxy tells whose connection it forwards: the PROXY protocol, versions 1 (a line of text) and
// 2 (binary), per https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt . Pure: bytes in, address out.
import { isIPv4, isIPv6 } from "node:net";

/** Why a connection does not begin with a valid header, for the log. */
export class ProxyFault {
  constructor(readonly reason: string) {}
}

export interface ProxyResult {
  /** The client's address; null where the proxy speaks for itself or does not know: the socket's own address counts. */
  address: string | null;
  /** What follows the header in the chunk that completed it. */
  rest: Buffer;
}

const TEXT_START = Buffer.from("PROXY ");
const UNKNOWN_START = Buffer.from("PROXY UNKNOWN ");
/** The longest line of version 1, including CR LF. */
export const MAX_TEXT_BYTES = 107;
const CR_LF = Buffer.from("\r\n");
const LF = 0x0a;

const SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
const FIXED_BYTES = 16;
/** Our limit for a header of version 2 with its TLVs, which are skipped: room for a client's certificate. */
export const MAX_BINARY_BYTES = 4096;
const LOCAL = 0x20;
const PROXY = 0x21;
const TCP4 = 0x11;
const TCP6 = 0x21;

/**
 * Reads one connection's header, in pieces of any size. Bytes that cannot become a header are a fault at once. What
 * version 2 carries beyond the addresses is counted, not kept.
 */
export class ProxyHeader {
  private readonly start = Buffer.alloc(MAX_TEXT_BYTES);
  private taken = 0;

  /** Takes the next bytes of the stream; null while the header is incomplete. Not to be called after another result. */
  push(chunk: Buffer): ProxyResult | ProxyFault | null {
    const { start, taken } = this;
    chunk.copy(start, taken);
    const seen = start.subarray(0, taken + chunk.length);
    const size = sizeOf(seen);
    if (size instanceof ProxyFault) return size;
    this.taken += chunk.length;
    if (size === null || this.taken < size) return null;
    const address = start[0] === SIGNATURE[0] ? binaryAddress(seen) : textAddress(seen.toString("latin1", 0, size - 2));
    return address instanceof ProxyFault ? address : { address, rest: chunk.subarray(size - taken) };
  }
}

/** The header's length in bytes; null while that is not known. */
function sizeOf(seen: Buffer): number | null | ProxyFault {
  if (isStart(seen, TEXT_START)) return textSize(seen);
  if (isStart(seen, SIGNATURE)) return binarySize(seen);
  return new ProxyFault("no PROXY header");
}

/** Whether `seen`, as far as it goes, agrees with `start`. */
function isStart(seen: Buffer, start: Buffer): boolean {
  const length = Math.min(seen.length, start.length);
  return seen.compare(start, 0, length, 0, length) === 0;
}

function textSize(seen: Buffer): number | null | ProxyFault {
  const end = seen.indexOf(CR_LF);
  if (end >= 0) return end + CR_LF.length;
  if (seen.length >= MAX_TEXT_BYTES) return new ProxyFault(`no line end within ${MAX_TEXT_BYTES} bytes`);
  // The rest of a PROXY UNKNOWN line is to be ignored, whatever it holds.
  if (seen.includes(LF) && !isStart(seen, UNKNOWN_START)) return new ProxyFault("a PROXY line must end with CR LF");
  return null;
}

function binarySize(seen: Buffer): number | null | ProxyFault {
  const command = seen[12];
  if (command !== undefined && command !== LOCAL && command !== PROXY)
    return new ProxyFault(`a binary PROXY header of unknown version and command 0x${command.toString(16)}`);
  if (seen.length < FIXED_BYTES) return null;
  const size = FIXED_BYTES + seen.readUInt16BE(14);
  return size <= MAX_BINARY_BYTES ? size : new ProxyFault(`a PROXY header of ${size} bytes is too long`);
}

/** The client's address in a version 1 line, given without its CR LF. */
function textAddress(line: string): string | null | ProxyFault {
  if (/^PROXY UNKNOWN(?: |$)/.test(line)) return null;
  const match = /^PROXY (TCP[46]) (\S+) (\S+) (\d{1,5}) (\d{1,5})$/.exec(line);
  if (match === null) return new ProxyFault("a malformed PROXY line");
  const [, family, source, destination, ...ports] = match as unknown as [string, string, string, string, string];
  const isAddress = family === "TCP4" ? isIPv4 : isPlainIPv6;
  if (!isAddress(source) || !isAddress(destination))
    return new ProxyFault(`a PROXY line without two ${family} addresses`);
  if (!ports.every((port) => String(Number(port)) === port && Number(port) <= 65_535))
    return new ProxyFault("a PROXY line with an invalid port");
  return family === "TCP4" ? source : canonicalIPv6(source);
}

/** The client's address in a version 2 header, once its fixed part and addresses have arrived. */
function binaryAddress(seen: Buffer): string | null | ProxyFault {
  if (seen[12] === LOCAL) return null;
  const family = seen[13]!;
  const length = seen.readUInt16BE(14);
  if (family === TCP4 && length >= 12) return seen.subarray(16, 20).join(".");
  if (family === TCP6 && length >= 36) {
    const groups = Array.from({ length: 8 }, (_, i) => seen.readUInt16BE(16 + 2 * i).toString(16));
    return canonicalIPv6(groups.join(":"));
  }
  if (family === TCP4 || family === TCP6) return new ProxyFault("a binary PROXY header too short for its addresses");
  // The specification's values with an unspecified family, protocol or both.
  if (family === 0x00 || family === 0x01 || family === 0x02 || family === 0x10 || family === 0x20) return null;
  return new ProxyFault(`a binary PROXY header of address family 0x${family.toString(16)}, which is not TCP`);
}

const isPlainIPv6 = (text: string): boolean => isIPv6(text) && !text.includes("%");

/** One spelling per address, so that addresses can be compared; an IPv4-mapped one becomes plain IPv4. */
function canonicalIPv6(text: string): string {
  const address = new URL(`http://[${text}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(address);
  if (mapped === null) return address;
  const [high, low] = [Number.parseInt(mapped[1]!, 16), Number.parseInt(mapped[2]!, 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}
