// Sets of IP networks, such as those whose proxies are believed.
import { BlockList, isIP } from "node:net";

export class Networks {
  private readonly list = new BlockList();

  private constructor(private readonly text: string) {}

  /** Parses a list such as 10.0.0.0/8,::1 ; undefined where an entry is neither a network nor an address. */
  static parse(text: string): Networks | undefined {
    const networks = new Networks(text);
    for (const network of text.split(",")) {
      const match = /^([0-9A-Fa-f.:]+)(?:\/(\d{1,3}))?$/.exec(network.trim());
      if (match === null) return undefined;
      const [, address, prefix] = match as unknown as [string, string, string | undefined];
      const version = isIP(address);
      const bits = version === 4 ? 32 : 128;
      const length = prefix === undefined ? bits : Number(prefix);
      if (version === 0 || length > bits) return undefined;
      networks.list.addSubnet(address, length, version === 4 ? "ipv4" : "ipv6");
    }
    return networks;
  }

  /** Whether the address is in one of them. An IPv4 address may be given IPv4-mapped (::ffff:127.0.0.1). */
  has(address: string): boolean {
    const version = isIP(address);
    return version !== 0 && this.list.check(address, version === 4 ? "ipv4" : "ipv6");
  }

  toString(): string {
    return this.text;
  }
}
