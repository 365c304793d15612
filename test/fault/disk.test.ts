// The disk is full: senders are told 19, nothing that was acknowledged suffers, and with space it goes on.
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Errno, type JsonObject, MsgId } from "../../src/protocol.ts";
import {
  CHAT_SERVER,
  CHEAP_PASSWORDS,
  type RunningServer,
  runProgram,
  startServer,
  temporaryFolder,
} from "../harness.ts";
import { login, register, type User, type Wire } from "../wire.ts";
import { compare, FLAWLESS, readLog, type Sent } from "./crowd.ts";
import { Reader } from "./flows.ts";

/** A place for a database where little can be stored. */
interface Place {
  data: string;
  /** To be put before the server's command. */
  prefix: string[];
  /** Makes room; `pid`: of the server that is to notice. */
  free(pid: number): void;
}

const mounted: string[] = [];
afterAll(() => {
  for (const folder of mounted) Bun.spawnSync(["umount", "--lazy", folder]);
});

/** A file system of its own with a file on it that can go. Null where this user may not mount. */
function smallDisk(): Place | null {
  const folder = join(temporaryFolder(), "disk");
  mkdirSync(folder);
  if (!Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder]).success) return null;
  mounted.push(folder);
  const other = join(folder, "other");
  writeFileSync(other, Buffer.alloc(14 * 1024 * 1024));
  return { data: join(folder, "chat.db"), prefix: [], free: () => rmSync(other, { force: true }) };
}

function smallFiles(): Place {
  return {
    data: join(temporaryFolder(), "chat.db"),
    prefix: ["prlimit", "--fsize=1500000:"],
    free: (pid) => {
      Bun.spawnSync(["prlimit", "--pid", String(pid), "--fsize=unlimited:"]);
    },
  };
}

const MESSAGE = "x".repeat(2_000);

/** Sends one after the other until `enough`; what was refused with 19 keeps its `seq` null. */
async function sendUntil(wire: Wire, user: User, to: User, sent: Sent[], enough: (refused: number) => boolean) {
  let refused = 0;
  while (!enough(refused)) {
    const requests: JsonObject[] = [];
    for (let i = 0; i < 8; i++) {
      const msg = `${sent.length}:${MESSAGE}`;
      sent.push({ sender: user.id, conv: `u:${user.id}-${to.id}`, msg, mid: `m${sent.length}`, seq: null });
      requests.push({ msgId: MsgId.chat, toid: to.id, msg, mid: sent.at(-1)!.mid! });
    }
    const answers = await Promise.all(requests.map((request) => wire.ask(request)));
    for (const { errno, mid, seq } of answers) {
      expect([Errno.ok, Errno.unavailable]).toContain(errno as 0);
      if (errno === Errno.ok) sent[Number((mid as string).slice(1))]!.seq = seq as number;
      else refused++;
    }
  }
}

/** Sends again what was refused. */
async function sendAgain(wire: Wire, to: User, sent: Sent[]): Promise<void> {
  for (const each of sent) {
    if (each.seq !== null) continue;
    const { errno, seq } = await wire.ask({ msgId: MsgId.chat, toid: to.id, msg: each.msg, mid: each.mid! });
    expect(errno).toBe(0);
    each.seq = seq as number;
  }
}

const start = ({ data, prefix }: Place): Promise<RunningServer> => startServer(data, CHEAP_PASSWORDS, 0, { prefix });

// Without the right to mount, the second way stands in for the first.
const places: [string, () => Place][] = [
  ["a full disk", () => smallDisk() ?? smallFiles()],
  ["a limit on the size of files", smallFiles],
];

test.each(places)("%s: messages are answered 19 until there is space, and the server goes on", async (_, make) => {
  const place = make();
  const server = await start(place);
  const [ann, bob] = [await register(server.port), await register(server.port)];
  const sender = await login(server.port, ann);
  const receiver = await login(server.port, bob);
  const reader = new Reader(receiver);
  const sent: Sent[] = [];
  await sendUntil(sender, ann, bob, sent, (refused) => refused > 30);
  expect(sent.filter(({ seq }) => seq !== null).length).toBeGreaterThan(100);

  // What needs nothing stored goes on.
  expect(await sender.ask({ msgId: MsgId.friends })).toMatchObject({ errno: 0, friends: [] });
  await reader.until(Math.max(...sent.map(({ seq }) => seq ?? 0)));

  place.free(server.pid);
  await sendAgain(sender, bob, sent);
  await sendUntil(sender, ann, bob, sent, () => sent.length % 200 === 0);
  await register(server.port);
  await reader.until(sent.length);
  expect(server.log()).toMatch(/SQLITE_(FULL|IOERR)/);
  expect(server.log()).not.toContain("bug");
  expect(await server.stop()).toBe(0);

  const again = await startServer(place.data);
  const back = await login(again.port, bob);
  expect(back.answer.offline).toBe(0);
  await again.stop();
  expect(compare(readLog(place.data), sent)).toEqual(FLAWLESS);
});

test.each(places)(
  "%s: the server ends in good order, starts or says why not, and has everything later",
  async (_, make) => {
    const place = make();
    const server = await start(place);
    const [ann, bob] = [await register(server.port), await register(server.port)];
    const sender = await login(server.port, ann);
    const sent: Sent[] = [];
    await sendUntil(sender, ann, bob, sent, (refused) => refused > 30);
    // Folding moves what the journal holds: with no space it must fail without harm.
    await Bun.sleep(500);
    expect(await server.stop()).toBe(0);

    const command = [CHAT_SERVER, "0", "--host", "127.0.0.1", "--data", place.data];
    const started = await start(place).catch(() => null);
    if (started !== null) expect(await started.stop("SIGKILL")).toBe(null);
    else {
      const { code, output, errors } = await runProgram([...place.prefix, ...command]);
      expect([code, output]).toEqual([1, ""]);
      expect(errors).toMatch(/^ChatServer: .*chat\.db.*\n$/);
    }

    place.free(0);
    const later = await startServer(place.data);
    const receiver = await login(later.port, bob);
    const stored = sent.filter(({ seq }) => seq !== null);
    expect(receiver.answer.offline).toBeGreaterThanOrEqual(stored.length);
    await sendAgain(await login(later.port, ann), bob, sent);
    await new Reader(receiver).until(sent.length);
    await later.stop();
    expect(compare(readLog(place.data), sent)).toEqual(FLAWLESS);
  },
);
