// C library functions that the runtime does not offer. The only file that uses FFI.
import { dlopen, ptr } from "bun:ffi";

const NAMES = process.platform === "darwin" ? ["libSystem.B.dylib"] : ["libc.so.6", "libc.so"];

function load() {
  for (const name of NAMES) {
    try {
      return dlopen(name, {
        listen: { args: ["i32", "i32"], returns: "i32" },
        flock: { args: ["i32", "i32"], returns: "i32" },
        fcntl: { args: ["i32", "i32", "ptr"], returns: "i32" },
        dup: { args: ["i32"], returns: "i32" },
        close: { args: ["i32"], returns: "i32" },
        socket: { args: ["i32", "i32", "i32"], returns: "i32" },
        sendto: { args: ["i32", "ptr", "u64", "i32", "ptr", "u32"], returns: "i64" },
        getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
        setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
        getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
      }).symbols;
    } catch {
      // the next name
    }
  }
  return null;
}
const libc = load();

/** Linux's constants. */
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_ACCEPTCONN = 30;
const IPPROTO_TCP = 6;
const TCP_USER_TIMEOUT = 18;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** sizeof(sun_path), including a path's final NUL. */
const MAX_UNIX_PATH = 108;

/** Sets a listening socket's backlog; the runtime's own is 512 and cannot be set. False where it failed. */
export const setBacklog = (fd: number, backlog: number): boolean => libc?.listen(fd, backlog) === 0;

/**
 * Sets TCP_USER_TIMEOUT on connections that a listening socket `fd` accepts from now on: they end when the peer has not
 * acknowledged data, or had no room for more, for `ms`. The system's own limit is a quarter of an hour, or none.
 */
export function setUserTimeout(fd: number, ms: number): void {
  if (process.platform !== "linux") return;
  libc?.setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, ptr(new Uint32Array([ms])), 4);
}

/**
 * Limits how much unread input the kernel keeps for each connection that a listening socket `fd` accepts from now on
 * (twice as much, including its overhead). By default that grows to many megabytes.
 */
export function setReceiveBuffer(fd: number, bytes: number): void {
  if (process.platform !== "linux") return;
  libc?.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, ptr(new Uint32Array([bytes])), 4);
}

/** Takes an exclusive lock on an open file, until it is closed or the process ends; false where another holds it. */
export const lockFile = (fd: number): boolean => libc === null || libc.flock(fd, 2 | 4) === 0; // LOCK_EX | LOCK_NB

/**
 * Locks the byte at `offset` of an open file, until this descriptor is closed or the process ends; false where another
 * holds it. True also where there are no such locks: on systems other than Linux, and some file systems.
 */
export function lockByte(fd: number, offset: number): boolean {
  if (process.platform !== "linux" || libc === null) return true;
  // struct flock: type and whence, start, length, and pid, which must be 0.
  const lock = new BigInt64Array([BigInt(F_WRLCK), BigInt(offset), 1n, 0n]);
  if (libc.fcntl(fd, F_OFD_SETLK, ptr(lock)) === 0) return true;
  return libc.fcntl(fd, F_OFD_GETLK, ptr(lock)) !== 0 || new Int16Array(lock.buffer)[0] === F_UNLCK;
}

/** Duplicates a descriptor, for the caller to close; null where that fails. */
export function duplicate(fd: number): number | null {
  const copy = libc?.dup(fd) ?? -1;
  return copy < 0 ? null : copy;
}

/** Closes a descriptor made by `duplicate`. */
export const closeDescriptor = (fd: number): void => void libc?.close(fd);

/** The address of a listening TCP socket; null where `fd` is not one. */
export function listeningAddress(fd: number): { host: string; port: number } | null {
  const flag = new Int32Array(1);
  const size = new Uint32Array([flag.byteLength]);
  if (libc?.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, ptr(flag), ptr(size)) !== 0 || flag[0] === 0) return null;
  const address = Buffer.alloc(128);
  size[0] = address.length;
  if (libc.getsockname(fd, ptr(address), ptr(size)) !== 0) return null;
  const family = new Uint16Array(address.buffer, address.byteOffset, 1)[0];
  const port = address.readUInt16BE(2);
  if (family === AF_INET) return { host: address.subarray(4, 8).join("."), port };
  if (family !== AF_INET6) return null;
  const groups = Array.from({ length: 8 }, (_, index) => address.readUInt16BE(8 + 2 * index).toString(16));
  return { host: new URL(`http://[${groups.join(":")}]`).hostname, port };
}

/**
 * Sends one datagram, without blocking, to the Unix socket with this path (or abstract name, after "@"); false where it
 * was not accepted.
 */
export function sendDatagram(path: string, text: string): boolean {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : `${path}\0`);
  if (libc === null || name.length > MAX_UNIX_PATH) return false;
  const address = Buffer.concat([new Uint8Array(new Uint16Array([AF_UNIX]).buffer), name]);
  const data = Buffer.from(text);
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const sent = libc.sendto(fd, ptr(data), data.length, MSG_DONTWAIT | MSG_NOSIGNAL, ptr(address), address.length);
  libc.close(fd);
  return Number(sent) === data.length;
}
