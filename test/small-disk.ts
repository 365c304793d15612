// A file system that can run full and have space again: a tmpfs that only the programs see that are started inside it, and
// that goes with the tests, whatever ends them. Root, or a user who may make namespaces, can have it.
import { started, temporaryFolder } from "./harness.ts";

export interface SmallDisk {
  /** Before the command of a program that is to see what is in `folder`. */
  inside: string[];
  /** Empty at first; to programs outside it stays so. */
  folder: string;
  /** From now on nothing more can be stored. */
  fill(): Promise<void>;
  /** There is space again. */
  free(): Promise<void>;
  /** What is in use stays until its users have ended. */
  stop(): void;
}

/** Lives as long as its standard input, and takes from there what to do. `$1` is the folder, `$2` the size. */
const KEEPER = `
mount -t tmpfs -o "size=$2,mode=0777" tmpfs "$1" || exit 1
echo ready
while read -r order; do
  size=$2
  # A size of 0 would mean: without a limit.
  if [ "$order" = fill ]; then size=$(df --block-size=1K --output=used "$1" | awk 'END { print $1 + 4 }')k; fi
  # Between the look and the act more may have been stored: a file system is not made smaller than what it holds.
  if mount -t tmpfs -o "remount,size=$size" tmpfs "$1" 2>/dev/null; then echo done; else echo again; fi
done`;
const MAX_TRIES = 50;

const root = process.getuid?.() === 0;
const keeperOf = (folder: string, mib: number): string[] => {
  const namespaces = root ? ["--mount"] : ["--map-root-user", "--mount"];
  return ["unshare", ...namespaces, "sh", "-c", KEEPER, "sh", folder, `${mib}m`];
};

let refusal: string | null | undefined;

/** Why there can be none on this machine; null where there can. */
export function whyNoSmallDisk(): string | null {
  if (refusal !== undefined) return refusal;
  try {
    const tried = Bun.spawnSync(keeperOf(temporaryFolder(), 1), { stdin: "ignore" });
    refusal = tried.success ? null : `a file system of its own cannot be mounted: ${tried.stderr.toString().trim()}`;
  } catch (error) {
    refusal = `a file system of its own cannot be mounted: ${(error as Error).message}`;
  }
  return refusal;
}

/** A file system of `mib`; throws with the reason where this user may not mount. */
export async function startSmallDisk(mib: number): Promise<SmallDisk> {
  const folder = temporaryFolder();
  const keeper = Bun.spawn(keeperOf(folder, mib), { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  started.add(keeper);
  keeper.exited.then(() => started.delete(keeper));
  const answers = linesOf(keeper.stdout);
  const next = async () => (await answers.next()).value ?? "";
  if ((await next()) !== "ready")
    throw new Error(`a file system of its own cannot be made here: ${(await keeper.stderr.text()).trim()}`);
  const order = async (what: "fill" | "free") => {
    for (let tried = 0; tried < MAX_TRIES; tried++) {
      keeper.stdin.write(`${what}\n`);
      keeper.stdin.flush();
      if ((await next()) === "done") return;
    }
    throw new Error(`the small file system could not be made to ${what}`);
  };
  const target = ["--target", String(keeper.pid)];
  return {
    inside: ["nsenter", ...target, "--mount", ...(root ? [] : ["--user", "--preserve-credentials"]), "--"],
    folder,
    fill: () => order("fill"),
    free: () => order("free"),
    stop: () => keeper.kill("SIGKILL"),
  };
}

async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split("\n");
    text = lines.pop()!;
    yield* lines;
  }
}
