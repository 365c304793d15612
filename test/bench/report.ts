// The printed tables.
import { cpus, totalmem } from "node:os";

export const row = (cells: (string | number)[]): void =>
  console.log(`| ${cells.map((cell) => String(cell)).join(" | ")} |`);

export function header(cells: string[]): void {
  row(cells);
  row(cells.map(() => "---"));
}

export function median<Sample>(samples: Sample[], of: (sample: Sample) => number): number {
  return samples.map(of).sort((a, b) => a - b)[Math.floor(samples.length / 2)]!;
}

export const machine = (): string => `${cpus().length} x ${cpus()[0]!.model}, ${Math.round(totalmem() / 2 ** 30)} GiB`;

export const share = (value: number, limit: number): string => `${Math.round((100 * value) / limit)} %`;
