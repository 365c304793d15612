// What the service tells the administrator: one line per event. Never a password, a token or a message's text.
export interface Log {
  error(line: string): void;
  warn(line: string): void;
  info(line: string): void;
  debug(line: string): void;
}
