// ./ChatClient as a process, for its tests: those that run, and what they are given.
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
