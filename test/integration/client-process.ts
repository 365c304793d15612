// ./ChatClient as a process, for its tests: those that run, what they are given, and one on a terminal.
import { CHAT_CLIENT, until } from "../harness.ts";
import type { User } from "../wire.ts";

/** Clients that still run, to be ended by `endClients`. */
export const running = new Set<Bun.Subprocess>();

export function endClients(): void {
  for (const client of running) client.kill("SIGKILL");
}

export const environment = (extra: Record<string, string> = {}) => ({
  PATH: process.env.PATH,
  TERM: "xterm",
  ...extra,
});

export const logInLine = ({ id, password }: User): string => `{"msgId":1002,"id":${id},"password":"${password}"}\n`;

/** The client on a terminal of 60 columns. */
export class Typist {
  /** All that has come to the terminal. */
  shown = "";
  private readonly client;

  /** `shell`: what starts the client, its command being "$@". */
  constructor(port: number, extra: Record<string, string> = {}, shell = 'exec "$@"') {
    this.client = Bun.spawn(["sh", "-mc", shell, "sh", CHAT_CLIENT, "127.0.0.1", String(port)], {
      env: environment(extra),
      terminal: {
        cols: 60,
        rows: 24,
        data: (_, chunk) => {
          this.shown += Buffer.from(chunk).toString("latin1");
        },
      },
    });
    running.add(this.client);
    this.client.exited.then(() => running.delete(this.client));
  }

  get exited(): Promise<number> {
    return this.client.exited;
  }

  /** Types as keys do, Enter at the end unless said otherwise. */
  type(text: string, enter = "\r"): void {
    this.client.terminal!.write(text + enter);
  }

  /** The terminal goes away, as when its window is closed. */
  hangUp(): void {
    this.client.terminal!.close();
  }

  /** Waits for `text` behind everything that was shown up to now, or behind `from`. */
  async sees(text: string | RegExp, from = 0): Promise<number> {
    let at = -1;
    await until(
      () => {
        const shown = this.shown.slice(from);
        at = typeof text === "string" ? shown.indexOf(text) : shown.search(text);
        return at >= 0;
      },
      `${text} on the terminal, which shows ${JSON.stringify(this.shown.slice(from))}`,
    );
    return from + at;
  }

  /** Answers a question when it stands there. */
  async answers(question: string, text: string): Promise<void> {
    await this.sees(question);
    this.type(text);
  }
}
