// Which machine the figures are of.
import { closeSync, fdatasyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { temporaryFolder } from "../harness.ts";

export interface Machine {
  processor: string;
  cores: number;
  memoryGiB: number;
  kernel: string;
  bun: string;
  /** Where the databases are. */
  disk: string;
  /** 4-KiB writes, each synced, a second. */
  syncsPerSecond: number;
}

const SYNC_MS = 1_000;
const PAGE_BYTES = 4_096;

export function describeMachine(): Machine {
  return {
    processor: cpus()[0]!.model.trim(),
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: `${process.platform} ${release()}`,
    bun: Bun.version,
    disk: fileSystemOf(tmpdir()),
    syncsPerSecond: measureSyncs(),
  };
}

export const lineOf = (machine: Machine): string =>
  `${machine.cores} x ${machine.processor}, ${machine.memoryGiB} GiB, ${machine.disk} with ${Math.round(machine.syncsPerSecond)} fdatasync/s, ${machine.kernel}, Bun ${machine.bun}; the load generator runs on the same cores`;

function measureSyncs(): number {
  const fd = openSync(join(temporaryFolder(), "sync"), "w");
  const page = Buffer.alloc(PAGE_BYTES, "x");
  const startedAt = performance.now();
  let syncs = 0;
  for (; performance.now() - startedAt < SYNC_MS; syncs++) {
    writeSync(fd, page);
    fdatasyncSync(fd);
  }
  closeSync(fd);
  return syncs / ((performance.now() - startedAt) / 1000);
}

/** The kind of the file system that holds a folder. */
function fileSystemOf(folder: string): string {
  const mounts = readFileSync("/proc/mounts", "utf8").trim().split("\n");
  let best = { at: "", kind: "unknown" };
  for (const line of mounts) {
    const [, at, kind] = line.split(" ") as [string, string, string];
    const holds = folder === at || folder.startsWith(at === "/" ? "/" : `${at}/`);
    if (holds && at.length >= best.at.length) best = { at, kind };
  }
  return best.kind;
}
