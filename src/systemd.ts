// The protocol with systemd: sd_notify(3) and sd_listen_fds(3). Without systemd nothing happens here.
import { sendDatagram } from "./libc.ts";
import { StartError } from "./start-error.ts";

type Environment = Record<string, string | undefined>;

/** The first passed descriptor (SD_LISTEN_FDS_START). */
const FIRST_FD = 3;
const STATUS_MS = 10_000;
/** How long stopping may take beyond the drain time before systemd gives up on the process. */
const STOP_MARGIN_MS = 5_000;

/** Whether a variable that names a process means this one, not an ancestor from which it was inherited. */
const meansUs = (pid: string | undefined): boolean => pid === String(process.pid);

/** The descriptor of the listening socket passed by a socket unit; null where there is none. Throws StartError. */
export function passedSocket({ LISTEN_PID, LISTEN_FDS }: Environment): number | null {
  if (!meansUs(LISTEN_PID) || LISTEN_FDS === undefined || LISTEN_FDS === "0") return null;
  if (LISTEN_FDS !== "1")
    throw new StartError(`LISTEN_FDS=${LISTEN_FDS}: the socket unit must have exactly one ListenStream=`);
  return FIRST_FD;
}

/**
 * Tells systemd how the server is: READY, then STATUS and the watchdog's pings at half its interval, then STOPPING.
 * Pings come from the event loop, so a loop that hangs sends none. Each message repeats everything, so the next one
 * makes up for one that was not accepted.
 */
export class Notifier {
  private readonly socket: string | null;
  private readonly watchdogMs: number | null;
  private state = "";
  private told = "";

  /** `status` is called from time to time for a line that people read. */
  constructor(
    { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID }: Environment,
    private readonly status: () => string,
  ) {
    this.socket = NOTIFY_SOCKET || null;
    const watchdogMs = Number(WATCHDOG_USEC) / 1000;
    this.watchdogMs = watchdogMs > 0 && (WATCHDOG_PID === undefined || meansUs(WATCHDOG_PID)) ? watchdogMs : null;
  }

  /** To be called when clients can connect. False where systemd expects it but could not be told. */
  ready(): boolean {
    if (this.socket === null) return true;
    this.state = `READY=1\nMAINPID=${process.pid}`;
    setInterval(() => this.tell(), Math.min(STATUS_MS, (this.watchdogMs ?? Number.POSITIVE_INFINITY) / 2));
    return this.tell();
  }

  /** To be called when stopping begins, which will take at most `limitMs`. */
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
