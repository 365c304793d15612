// Sockets that the runtime does not offer, as systemd has them: a Unix datagram socket to receive notifications, and a
// listening socket that is only held, for programs to inherit.
import { dlopen, ptr } from "bun:ffi";
import { listeningAddress } from "../src/libc.ts";

const libc = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i64" },
  close: { args: ["i32"], returns: "i32" },
}).symbols;

const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;

function bound(family: number, type: number, rest: Buffer): number {
  const fd = libc.socket(family, type | SOCK_CLOEXEC, 0);
  const address = Buffer.concat([Buffer.from([family, 0]), rest]);
  if (fd < 0 || libc.bind(fd, ptr(address), address.length) !== 0) throw new Error("no socket to be had");
  return fd;
}

/** The manager's end of NOTIFY_SOCKET. Nothing is read before it is asked for. */
export class NotifySocket {
  private readonly fd: number;
  private readonly buffer = Buffer.alloc(65_536);

  /** `path`: "@" before it makes it an abstract name. */
  constructor(readonly path: string) {
    this.fd = bound(AF_UNIX, SOCK_DGRAM, Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : `${path}\0`));
  }

  /** The next message, as lines; null while there is none. */
  read(): string[] | null {
    const length = Number(libc.recv(this.fd, ptr(this.buffer), this.buffer.length, MSG_DONTWAIT));
    return length < 0 ? null : this.buffer.toString("utf8", 0, length).split("\n");
  }

  close(): void {
    libc.close(this.fd);
  }
}

/** A TCP socket that listens on a free port of 127.0.0.1 and accepts nobody. */
export function holdPort(): { fd: number; port: number; close(): void } {
  const fd = bound(AF_INET, SOCK_STREAM, Buffer.from([0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
  libc.listen(fd, 4096);
  return { fd, port: listeningAddress(fd)!.port, close: () => void libc.close(fd) };
}
