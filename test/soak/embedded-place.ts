// Where the embedded store's files are during its soak: on the machine's disk, or on a small one that can run full. A
// server is moved between them by copies of what a kill has left.
import { join } from "node:path";
import { runProgram, temporaryFolder } from "../harness.ts";
import { startSmallDisk } from "../small-disk.ts";

export interface Place {
  /** The database, as programs see it that are started with `inside` before them. */
  file: string;
  inside: string[];
  /** Null where this place has room always. */
  fill: (() => Promise<void>) | null;
  free: () => Promise<void>;
}

/** What the largest soak stores has room in it: memory is used for what is stored only. */
const SMALL_DISK_MIB = 8_192;
const COPY_MS = 120_000;

const chatDb = (folder: string) => join(folder, "chat.db");

export function makeDisk(): Place {
  return { file: chatDb(temporaryFolder()), inside: [], fill: null, free: async () => undefined };
}

/** Rejects with the reason where this user may not mount. */
export async function makeSmallDisk(): Promise<Place & { stop(): void }> {
  const { folder, inside, fill, free, stop } = await startSmallDisk(SMALL_DISK_MIB);
  return { file: chatDb(folder), inside, fill, free, stop };
}

/** Runs a script where `place` is seen; `$1` … are `values`. Rejects with what it says where it fails. */
export async function runIn(place: Place, script: string, ...values: string[]): Promise<void> {
  const { code, errors } = await runProgram([...place.inside, "sh", "-c", script, "sh", ...values], {}, COPY_MS);
  if (code !== 0) throw new Error(`${script} failed: ${errors}`);
}

/** Copies what a killed server has left: the database and its write-ahead log, without the index of that. */
export async function copyStore(from: Place, file: string): Promise<void> {
  const script = 'cp "$1" "$2" && rm -f "$2-wal" "$2-shm" && if [ -e "$1-wal" ]; then cp "$1-wal" "$2-wal"; fi';
  await runIn(from, script, from.file, file);
}

export const removeStore = (place: Place): Promise<void> => runIn(place, 'rm -f "$1" "$1"-wal "$1"-shm', place.file);

/** As if the file system had become read-only; or why that cannot be done in `place`. */
export interface Seal {
  /** Also for a server that has the files open. */
  close(): Promise<void>;
  open(): Promise<void>;
}

/** Nobody can write into the files that there are. */
export function immutable(place: Place): Seal {
  const change = (sign: string) =>
    runIn(place, 'for f in "$1" "$1"-wal; do [ ! -e "$f" ] || chattr "$2i" "$f"; done', place.file, sign);
  return { close: () => change("+"), open: () => change("-") };
}

/** Writes of the process fail beyond so many bytes of a file, until it is lifted. */
export function limitFiles(pid: number, bytes: number | "unlimited"): boolean {
  return Bun.spawnSync(["prlimit", "--pid", String(pid), `--fsize=${bytes}:`]).success;
}

/** Why a file that is open cannot be sealed in `place`; null where it can. */
export async function whyNotImmutable(place: Place): Promise<string | null> {
  const probe = `${place.file}-probe`;
  // Some file systems take the attribute and do not heed it for files that are open.
  const script = 'exec 7>"$1" && chattr +i "$1" || exit 1; echo >&7; held=$?; chattr -i "$1"; rm "$1"; [ $held != 0 ]';
  try {
    await runIn(place, script, probe);
    return null;
  } catch {
    return "chattr +i needs root and a file system that heeds it";
  }
}
