// What the embedded soak does to its one server and to the files of that. One after the other: each leaves a server
// that runs, on files that can be written.
import { dirname } from "node:path";
import { MsgId } from "../../src/protocol.ts";
import type { Wire } from "../wire.ts";
import { copyStore, immutable, limitFiles, type Place, removeStore, runIn, whyNotImmutable } from "./embedded-place.ts";
import type { Waits } from "./embedded-recovery.ts";
import type { EmbeddedServer } from "./embedded-server.ts";
import type { Random } from "./random.ts";

export interface EmbeddedWorld {
  readonly random: Random;
  readonly server: EmbeddedServer;
  readonly waits: Waits;
  readonly disk: Place;
  /** Or why there is none. */
  readonly small: Place | string;
  /** Something is not as it should be: told in the table. */
  fault(what: string): void;
  wait(ms: number): Promise<void>;
  /** A connection of somebody who only reads, logged in. */
  observe(): Promise<Wire>;
}

export interface EmbeddedFault {
  readonly name: string;
  readonly weight: number;
  /** It leaves the process alone, and happens beside others. */
  readonly beside?: boolean;
  /** Why it cannot be injected here; null where it can. */
  unavailable?(world: EmbeddedWorld): Promise<string | null>;
  inject(world: EmbeddedWorld): Promise<void>;
}

const needsSmall = async ({ small }: EmbeddedWorld) => (typeof small === "string" ? small : null);

/** kill -9, `act`, and a start; users wait from the kill on. */
async function killed(
  { server, waits }: EmbeddedWorld,
  act: () => Promise<void> = async () => undefined,
): Promise<void> {
  const at = performance.now();
  await server.end("SIGKILL");
  await act();
  await server.start();
  waits.expect("kill -9", at);
}

/** Moves a server that does not run to `to`, by copies of its files. */
async function moveTo({ server }: EmbeddedWorld, to: Place): Promise<void> {
  const from = server.place;
  if (from === to) return;
  // What is outside is seen from inside too.
  await copyStore(from.inside.length > 0 ? from : { ...from, inside: to.inside }, to.file);
  await removeStore(from);
  server.place = to;
}

async function runOn(world: EmbeddedWorld, place: Place): Promise<void> {
  if (world.server.place === place) return;
  await killed(world, () => moveTo(world, place));
}

/** What a reader asks for: read from the store, each time. */
const READS = [{ msgId: MsgId.friends }, { msgId: MsgId.groups }];

/** For about `ms`, with writes that fail: who is logged in is served what is stored. */
async function readFor({ wait, fault }: EmbeddedWorld, reader: Wire, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 100) {
    for (const request of READS) {
      const { errno } = await reader.ask(request);
      if (errno !== 0) fault(`request ${request.msgId} was answered ${errno} while nothing could be stored`);
    }
    await wait(Math.min(left, 100));
  }
}

/** Writes fail from `begin` to `end`; sometimes the server ends meanwhile, and is started. */
async function trouble(world: EmbeddedWorld, begin: () => Promise<void>, end: () => Promise<void>, mayStart: boolean) {
  const { random, server, waits } = world;
  const reader = await world.observe();
  await begin();
  try {
    await readFor(world, reader, random.ms(300, 4_000));
    if (random.chance(0.5)) {
      const signal = random.pick(["SIGKILL", "SIGKILL", "SIGTERM"] as const);
      const code = await server.end(signal);
      if (signal === "SIGTERM" && code !== 0) world.fault(`SIGTERM ended it with ${code} while it could write nothing`);
      const why = await server.tryStart();
      if (why === null && !mayStart) world.fault("a server has started where it can write nothing");
      if (why === null) await world.wait(random.ms(100, 1_000));
    }
  } finally {
    reader.close();
    await end();
  }
  if (server.running === null) await server.start();
  waits.expect("writes possible again");
}

export const EMBEDDED_FAULTS: EmbeddedFault[] = [
  {
    name: "kill -9",
    weight: 10,
    inject: (world) => killed(world),
  },
  {
    name: "kill -9, again right after start",
    weight: 4,
    async inject(world) {
      await killed(world);
      await world.wait(world.random.int(0, 150));
      await killed(world);
    },
  },
  {
    name: "kill -9, again during the start",
    weight: 4,
    inject: (world) =>
      killed(world, async () => {
        const { random, server } = world;
        for (let more = random.int(1, 3); more > 0; more--) await server.startAndKill(random.int(5, 150));
      }),
  },
  {
    name: "SIGTERM",
    weight: 3,
    async inject({ server, waits, fault }) {
      const at = performance.now();
      const code = await server.end("SIGTERM");
      if (code !== 0) fault(`SIGTERM ended it with ${code}`);
      await server.start();
      waits.expect("SIGTERM", at);
    },
  },
  {
    name: "kill -9, on from a copy with -wal",
    weight: 3,
    inject: (world) =>
      killed(world, async () => {
        const { server, disk, small } = world;
        const other = server.place === disk ? small : disk;
        if (typeof other !== "string") return moveTo(world, other);
        await copyStore(disk, `${disk.file}-copy`);
        await removeStore(disk);
        await runIn(disk, 'mv "$1-copy" "$1" && mv "$1-copy-wal" "$1-wal"', disk.file);
      }),
  },
  {
    name: "kill -9, -shm removed",
    weight: 3,
    inject: (world) => killed(world, () => runIn(world.server.place, 'rm -f "$1"-shm', world.server.place.file)),
  },
  {
    name: "disk full",
    weight: 4,
    unavailable: needsSmall,
    async inject(world) {
      const small = world.small as Place;
      await runOn(world, small);
      await trouble(world, small.fill!, small.free, true);
    },
  },
  {
    name: "files limited (EFBIG)",
    weight: 2,
    async inject(world) {
      const { server } = world;
      const { pid } = server.running!;
      const limit = async () => {
        if (!limitFiles(pid, 4_096)) world.fault("prlimit does not work");
      };
      await trouble(world, limit, async () => void limitFiles(pid, "unlimited"), true);
    },
  },
  {
    name: "files read-only while open",
    weight: 3,
    unavailable: ({ disk }) => whyNotImmutable(disk),
    async inject(world) {
      await runOn(world, world.disk);
      const { close, open } = immutable(world.disk);
      await trouble(world, close, open, false);
    },
  },
  {
    name: "read-only file system at start",
    weight: 2,
    unavailable: needsSmall,
    inject: (world) =>
      killed(world, async () => {
        const small = world.small as Place;
        await moveTo(world, small);
        const remount = (mode: string) =>
          runIn(small, 'mount -t tmpfs -o "remount,$2" tmpfs "$1"', dirname(small.file), mode);
        await remount("ro");
        try {
          if ((await world.server.tryStart()) !== null) return;
          world.fault("a server has started on a read-only file system");
          await world.server.end("SIGKILL");
        } finally {
          await remount("rw");
        }
      }),
  },
  {
    name: "SIGSTOP, SIGCONT",
    weight: 3,
    async inject(world) {
      const { random, server, waits } = world;
      server.signal("SIGSTOP");
      await world.wait(random.ms(300, 8_000));
      // Sometimes it dies so.
      if (random.chance(0.3)) return killed(world);
      server.signal("SIGCONT");
      waits.expect("SIGCONT");
    },
  },
];
