// A server whose wall clock a test moves, by libfaketime: the monotonic clock and the dates of files stay as they are.
import { existsSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "../harness.ts";

/** Where Debian, Fedora, Arch and its own Makefile put it. The one made for several threads: the store has its own. */
const FOLDERS = [
  `/usr/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`,
  "/usr/lib64",
  "/usr/lib",
  "/usr/local/lib",
];
const LIBRARY = "faketime/libfaketimeMT.so.1";

export interface Clock {
  /** To be put before the server's command (see Surroundings): every server that is started so shares this clock. */
  prefix: string[];
  /** Sets it to the machine's time and so many seconds, at once, for servers that run and those started later. */
  move(seconds: number): void;
}

/** A clock that shows the machine's time until it is moved; or, where none can be made, why not. */
export function makeClock(): Clock | string {
  removeLeftovers();
  const library = FOLDERS.map((folder) => join(folder, LIBRARY)).find(existsSync);
  if (library === undefined) return "libfaketime is missing: apt-get install libfaketime";
  const folder = temporaryFolder();
  const [file, next] = [join(folder, "clock"), join(folder, "next")];
  const move = (seconds: number) => {
    // Never half a file: the server reads it whenever it looks at the time.
    writeFileSync(next, `${seconds < 0 ? "" : "+"}${seconds}\n`);
    renameSync(next, file);
  };
  move(0);
  const settings = [
    `LD_PRELOAD=${library}`,
    `FAKETIME_TIMESTAMP_FILE=${file}`,
    "FAKETIME_NO_CACHE=1",
    "FAKETIME_DONT_FAKE_MONOTONIC=1",
    "NO_FAKE_STAT=1",
  ];
  return { prefix: ["env", ...settings], move };
}

const SHARED_MEMORY = "/dev/shm";

/** Removes what the library keeps in shared memory for processes that are gone: one that was killed leaves it behind. */
export function removeLeftovers(): void {
  for (const name of existsSync(SHARED_MEMORY) ? readdirSync(SHARED_MEMORY) : []) {
    const pid = /^(?:sem\.)?faketime_s(?:hm|em)_(\d+)$/.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    try {
      rmSync(join(SHARED_MEMORY, name));
    } catch {
      // Another user's, or removed meanwhile.
    }
  }
}
process.on("exit", removeLeftovers);
