// What systemd and the server tell each other: sd_notify(3) and sd_listen_fds(3). Without systemd nothing happens here.
import { sendDatagram } from "./libc.ts";
import { StartError } from "./start-error.ts";

type Environment = Record<string, string | undefined>;

/** Where passed descriptors begin. */
const FIRST_FD = 3;
const STATUS_MS = 10_000;
/** What the end may take beyond the time to drain before systemd gives the process up. */
const STOP_MARGIN_MS = 5_000;

/** Whether a variable that names a process means this one, and no descendant that has inherited it. */
const meansUs = (pid: string | undefined): boolean => pid === String(process.pid);

/** The descriptor of the listening socket that a socket unit holds; null where there is none. Throws StartError. */
export function passedSocket({ LISTEN_PID, LISTEN_FDS }: Environment): number | null {
  if (!meansUs(LISTEN_PID) || LISTEN_FDS === undefined || LISTEN_FDS === "0") return null;
  if (LISTEN_FDS !== "1")
    throw new StartError(`LISTEN_FDS=${LISTEN_FDS}: the socket unit must have exactly one ListenStream=`);
  return FIRST_FD;
}

/**
 * Tells systemd how the server fares: READY, then STATUS and the watchdog's pings at half its time, then STOPPING. A
 * ping comes from the event loop: a loop that hangs sends none. Each message says everything, so that one that was
 * not taken is made up for by the next.
 */
export class Notifier {
  private readonly socket: string | null;
  private readonly watchdogMs: number | null;
  private state = "";
  private told = "";

  /** `status`: one line for people, asked for from time to time. */
  constructor(
    { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID }: Environment,
    private readonly status: () => string,
  ) {
    this.socket = NOTIFY_SOCKET || null;
    const watchdogMs = Number(WATCHDOG_USEC) / 1000;
    this.watchdogMs = watchdogMs > 0 && (WATCHDOG_PID === undefined || meansUs(WATCHDOG_PID)) ? watchdogMs : null;
  }

  /** To be called when clients can connect. False where systemd waits for it and could not be told. */
  ready(): boolean {
    if (this.socket === null) return true;
    this.state = `READY=1\nMAINPID=${process.pid}`;
    setInterval(() => this.tell(), Math.min(STATUS_MS, (this.watchdogMs ?? Number.POSITIVE_INFINITY) / 2));
    return this.tell();
  }

  /** To be called when the end begins, which is to come within `limitMs`. */
  stopping(limitMs: number): void {
    if (this.socket === null) return;
    this.state = `STOPPING=1\nEXTEND_TIMEOUT_USEC=${(limitMs + STOP_MARGIN_MS) * 1000}`;
    this.tell();
  }

  private tell(): boolean {
    const text = `${this.state}\nSTATUS=${this.status()}`;
    if (this.watchdogMs === null && text === this.told) return true;
    const taken = sendDatagram(this.socket!, this.watchdogMs === null ? text : `${text}\nWATCHDOG=1`);
    if (taken) this.told = text;
    return taken;
  }
}
