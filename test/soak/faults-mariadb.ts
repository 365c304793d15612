// What happens to MariaDB itself, and what others do there: locks held for seconds, connections used up or ended.
import { databaseOf } from "../services.ts";
import { whyNoSmallDisk } from "../small-disk.ts";
import type { Fault, World } from "./fault.ts";
import { mariadbNetworkFaults } from "./faults-network.ts";

/** A fault of the one MariaDB: it claims it, and tells when it is back. */
const ofMariadb = (name: string, act: (world: World) => Promise<void>, weight = 1): Fault => ({
  name: `mariadb ${name}`,
  weight,
  async inject(world) {
    const release = await world.claim("mariadb");
    try {
      await act(world);
      await world.mariadb.admin("SELECT 1");
      world.mark("database-returned");
    } finally {
      release();
    }
  },
});

const accountOf = (world: World): string => new URL(world.databaseUrl).username;

const kill = ofMariadb(
  "kill",
  async (world) => {
    world.begin();
    await world.mariadb.kill();
    // At times for longer than the leases.
    await world.wait(world.random.ms(100, 12_000));
    await world.mariadb.restart();
  },
  2,
);

const restart = ofMariadb("restart", async (world) => {
  world.begin();
  await world.mariadb.restart();
});

const pause = ofMariadb("pause", async (world) => {
  const ms = world.random.ms(500, 15_000);
  world.begin(`${ms} ms`);
  world.mariadb.pause();
  try {
    await world.wait(ms);
  } finally {
    world.mariadb.resume();
  }
});

/** What batches, log-ins, cursors and leases each need. */
const ROWS: [what: string, sql: string][] = [
  ["all conversations", "SELECT id FROM conversation FOR UPDATE"],
  ["some conversations", "SELECT id FROM conversation WHERE id % 5 = 1 FOR UPDATE"],
  ["lanes", "SELECT batch FROM lane WHERE fenced = 0 FOR UPDATE"],
  ["a lane of each boot", "SELECT batch FROM lane WHERE lane = 1 FOR UPDATE"],
  ["gates", "SELECT batch FROM lane WHERE lane = -1 FOR UPDATE"],
  ["devices", "SELECT id FROM device FOR UPDATE"],
  ["cursors", "SELECT seq FROM `cursor` FOR UPDATE"],
  ["leases", "SELECT boot FROM instance FOR UPDATE"],
  ["links", "SELECT boot FROM link FOR UPDATE"],
  ["members", "SELECT role FROM member FOR UPDATE"],
];

const rowLock = ofMariadb(
  "row lock",
  async (world) => {
    const [what, sql] = world.random.pick(ROWS);
    const ms = world.random.ms(500, 8_000);
    await holding(world, ["START TRANSACTION", sql], "ROLLBACK", () => {
      world.begin(`${what}, ${ms} ms`);
      return world.wait(ms);
    });
  },
  2,
);

/** As an ALTER TABLE or a backup holds them. */
const TABLES = ["message", "conversation", "commit_log", "lane", "device", "instance"];

const metadataLock = ofMariadb("metadata lock", async (world) => {
  const table = world.random.pick(TABLES);
  const mode = world.random.pick(["READ", "WRITE"]);
  const everything = world.random.chance(0.2);
  const lock = everything ? "FLUSH TABLES WITH READ LOCK" : `LOCK TABLES ${table} ${mode}`;
  const ms = world.random.ms(500, 8_000);
  await holding(world, [lock], "UNLOCK TABLES", () => {
    world.begin(`${lock}, ${ms} ms`);
    return world.wait(ms);
  });
});

const MAX_TRIES = 50;

/** Does `work` while a session of its own holds what `statements` take: it may be what a deadlock is resolved with. */
async function holding(world: World, statements: string[], end: string, work: () => Promise<void>): Promise<void> {
  const session = await world.mariadb.session(databaseOf(world.databaseUrl));
  try {
    const take = async () => {
      for (const statement of statements) await session.run(statement);
    };
    for (let tried = 1; ; tried++) {
      const taken = await take().then(
        () => true,
        (error) => {
          if (tried === MAX_TRIES) throw error;
          return false;
        },
      );
      if (taken) break;
    }
    await work();
    await session.run(end);
  } finally {
    // Ends the transaction, whatever came.
    session.close();
  }
}

/** The connections of all instances: the numbers that KILL takes. */
async function connectionsOf(world: World): Promise<number[]> {
  const rows = await world.mariadb.admin(
    `SELECT id FROM information_schema.processlist WHERE user = '${accountOf(world)}' ORDER BY id`,
  );
  return rows.map(({ id }) => Number(id));
}

async function end(world: World, connections: number[], what: "CONNECTION" | "QUERY"): Promise<void> {
  // One that has ended meanwhile is no fault.
  for (const id of connections) await world.mariadb.admin(`KILL ${what} ${id}`).catch(() => undefined);
}

const MIN_CONNECTIONS = 10;

/** Whoever loses its connection gets no new one, and who starts gets none at all. */
const usedUp = ofMariadb("connections used up", async (world) => {
  const [before] = await world.mariadb.admin("SELECT @@GLOBAL.max_connections AS count");
  const ids = await connectionsOf(world);
  const left = Math.max(MIN_CONNECTIONS, Math.floor(ids.length * world.random.next()));
  const ms = world.random.ms(500, 10_000);
  world.begin(`${left} in place of ${ids.length}, ${ms} ms`);
  await world.mariadb.admin(`SET GLOBAL max_connections = ${left}`);
  try {
    await end(world, world.random.sample(ids, Math.max(1, ids.length - left)), "CONNECTION");
    await world.wait(ms);
  } finally {
    await world.mariadb.admin(`SET GLOBAL max_connections = ${before!.count}`);
  }
});

const killed = ofMariadb(
  "connections killed",
  async (world) => {
    world.begin();
    const times = world.random.int(1, 5);
    for (let time = 0; time < times; time++) {
      const ids = await connectionsOf(world);
      const some = world.random.chance(0.3) ? ids : world.random.sample(ids, world.random.int(1, ids.length));
      await end(world, some, world.random.chance(0.7) ? "CONNECTION" : "QUERY");
      await world.wait(world.random.ms(20, 2_000));
    }
  },
  2,
);

/** Tables have space left for seconds: until then nobody notices. */
const NOTICED_MS = 20_000;
const LOOK_MS = 100;

const diskFull: Fault = {
  ...ofMariadb("disk full", async (world) => {
    const { mariadb, random } = world;
    const refusals = () =>
      world.instances.reduce((sum, { running }) => sum + (running?.log().split("is full").length ?? 0), 0);
    const before = refusals();
    world.begin();
    await mariadb.disk!.fill();
    try {
      const end = performance.now() + NOTICED_MS;
      while (refusals() <= before && performance.now() < end) await world.wait(LOOK_MS);
      await world.wait(random.ms(500, 10_000));
    } finally {
      await mariadb.disk!.free();
    }
    const lives = await mariadb.admin("SELECT 1").then(
      () => true,
      () => false,
    );
    // A MariaDB that can not even undo ends itself, and systemd starts it again.
    if (!lives) await mariadb.restart();
  }),
  unavailable: whyNoSmallDisk,
};

export const mariadbFaults: Fault[] = [
  kill,
  restart,
  pause,
  rowLock,
  metadataLock,
  usedUp,
  killed,
  diskFull,
  ...mariadbNetworkFaults,
];
