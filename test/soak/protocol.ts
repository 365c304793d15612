// What happened when, for whoever looks for the cause of a finding.
import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";

/** Of a server's log, each time that it ends. */
const LOG_TEXT = 2_000_000;

export class Protocol {
  /** `folder`: where it is written to; null: nowhere. */
  constructor(private readonly folder: string | null) {
    if (folder !== null) mkdirSync(folder, { recursive: true });
  }

  note(line: string): void {
    this.append("soak.log", `${new Date().toISOString()} ${line}\n`);
  }

  /** What a server has logged until its end. */
  server(index: number, log: string): void {
    this.append(`instance-${index}.log`, `${log.slice(-LOG_TEXT)}--- ended ${new Date().toISOString()}\n`);
  }

  private append(file: string, text: string): void {
    if (this.folder !== null) appendFileSync(join(this.folder, file), text);
  }
}
