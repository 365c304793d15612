// What the service reports to the administrator: one line per event. Never a password, a token or a message's text.
export interface Log {
  error(line: string): void;
  warn(line: string): void;
  info(line: string): void;
  debug(line: string): void;
}

/**
 * A log for what every request or connection could report, such as trouble with the store: at most one error or
 * warning a second, with the number of those suppressed since the last one.
 */
export class RateLimitedLog implements Log {
  private toldAt = Number.NEGATIVE_INFINITY;
  private suppressed = 0;

  constructor(private readonly log: Log) {}

  error(line: string): void {
    this.tell((told) => this.log.error(told), line);
  }

  warn(line: string): void {
    this.tell((told) => this.log.warn(told), line);
  }

  info(line: string): void {
    this.log.info(line);
  }

  debug(line: string): void {
    this.log.debug(line);
  }

  private tell(log: (line: string) => void, line: string): void {
    const now = performance.now();
    if (now - this.toldAt < 1_000) {
      this.suppressed++;
      return;
    }
    log(this.suppressed === 0 ? line : `${line} (and ${this.suppressed} more like it since the last such line)`);
    this.toldAt = now;
    this.suppressed = 0;
  }
}
