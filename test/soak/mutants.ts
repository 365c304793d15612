// The guarantees, each broken on purpose: what is changed, and which soak is to see it, by what. See mutations.ts.
import type { Bad } from "./ledger.ts";

export interface Edit {
  file: string;
  /** There exactly once. */
  find: string;
  replace: string;
}

/**
 * The guarantees that are broken here hold each other up: what Redis does not tell, the commit log does; what a client was
 * not acknowledged, it sends again. So some of these lose nothing by themselves, and show as what they cost.
 */
export interface Mutant {
  name: string;
  /** What does not hold any more. */
  guarantee: string;
  edits: Edit[];
  /** Arguments of the soak that is to see it: the fault that it needs, and no longer than that takes. */
  soak: string[];
  /** How what it finds begins: a column of the table, or a limit in words. */
  seenBy: Bad | (string & {});
}

const cluster = (faults: string, load: string): string[] => [
  ...`--seed 7 --minutes 0.5 --rest 20 ${load}`.split(" "),
  "--faults",
  faults,
];
/** So little that a message is seldom followed by another one, from which it would be noticed that it is missing. */
const SPARSE = "--rate 8 --users 48";

export const MUTANTS: Mutant[] = [
  {
    // The window is that of a slow disk, so that a kill meets it.
    name: "ack-before-commit",
    guarantee: "the ack follows the commit: what is acknowledged survives kill -9",
    edits: [
      {
        file: "src/db/sqlite-worker.ts",
        find: `    tx.log.record();
    tx.prepare("COMMIT").run();`,
        replace: `    tx.log.record();
    self.postMessage(JSON.stringify(made.splice(0)));
    Bun.sleepSync(20);
    tx.prepare("COMMIT").run();`,
      },
    ],
    soak: ["--embedded", "--seed", "7", "--kills", "12", "--settle", "1", "--faults", "kill -9"],
    seenBy: "lost",
  },
  {
    name: "guess-an-unknown-commit",
    guarantee: "a COMMIT without an answer is resolved, never guessed: here it is taken for done",
    edits: [
      {
        file: "src/db/mysql-lane.ts",
        find: `          this.unsure = sent;
          if (await this.settle(deadline)) return value as T;`,
        replace: `          this.batch++;
          return value as T;`,
      },
    ],
    soak: cluster("mariadb kill,mariadb reset", "--rate 600"),
    seenBy: "lost",
  },
  {
    name: "push-past-a-gap",
    guarantee: "a session is pushed the row after its position only: a row that was not heard of is read first",
    edits: [
      {
        file: "src/service/delivery.ts",
        find: "const isNext = seq === (position.at ?? -1) + 1 &&",
        replace: "const isNext = seq > (position.at ?? -1) &&",
      },
    ],
    soak: cluster("redis kill,subscriptions killed,clients reset", "--rate 600"),
    seenBy: "lost",
  },
  {
    // It writes nothing: the database refuses what a fenced boot sends. But it would push.
    name: "skip-the-lease-check",
    guarantee: "an instance that others may have taken over pushes nothing, also in its first turn after a pause",
    edits: [
      {
        file: "src/db/mysql-lease.ts",
        find: "return !this.stopped && performance.now() - this.confirmedAt < LEASE_S * 1_000 - MARGIN_MS;",
        replace: "return !this.stopped;",
      },
    ],
    soak: cluster("SIGSTOP until taken over", "--rate 100"),
    seenBy: "doubled",
  },
  {
    // Nothing is lost by it to programs on the SDK: they send again what they have no answer to.
    name: "close-without-shutdown",
    guarantee: "a draining server ends connections by FIN: a reset destroys acknowledgements on their way",
    edits: [
      {
        file: "src/net/connection.ts",
        find: `    this.socket.shutdown();
    if (this.peerEndedAt !== null) this.end();
    else this.lingerTimer = setTimeout(() => this.end(), LINGER_MS);`,
        replace: `    this.socket.terminate();
    this.handleClose();`,
      },
    ],
    soak: cluster("SIGTERM,reconnect storm", "--rate 300 --together"),
    seenBy: "died",
  },
  {
    // Nothing is lost by it: the commit log brings every message, on the average a second later. Only the limit of the time to
    // live delivery sees it; where the log is ignored too, it is what ignore-the-commit-log shows.
    name: "lose-a-publish",
    guarantee: "what is committed is told to the receivers' instances at once; the log, 2 s later, is for what is lost",
    edits: [
      {
        file: "src/router/redis.ts",
        find: `    for (const [channel, envelopes] of outbox)
      this.try(`,
        replace: `    for (const [channel, envelopes] of outbox)
      if (envelopes.every(({ kind }) => kind !== "hint")) this.try(`,
      },
    ],
    soak: cluster("redis restart", "--rate 100"),
    seenBy: "from Redis's return to live delivery",
  },
  {
    // What was not published while Redis was away never comes by itself, and little follows that would show that it is missing.
    name: "ignore-the-commit-log",
    guarantee: "what was not heard is read from the commit log: Redis' absence costs latency, never a message",
    edits: [
      {
        file: "src/service/cluster.ts",
        find: "await this.sessions.delivery.noteHead(this.unread[0]!);",
        replace: "continue;",
      },
    ],
    soak: cluster("redis unreachable everywhere", SPARSE),
    seenBy: "late",
  },
  {
    // Of receivers on the sender's instance: those of others are found by the commit log, whatever was looked up.
    name: "look-up-before-commit",
    guarantee: "receivers are looked up after the commit: here who is there when a message comes is told of it",
    edits: [
      {
        file: "src/service/committer.ts",
        find: "    this.queue.push(request);",
        replace: `    const { kind, lo, hi } = request.key;
    if (kind === "u") request.only = new Set([lo, hi].flatMap((id) => [...this.delivery.router.of(id)]));
    this.queue.push(request);`,
      },
      {
        file: "src/service/committer.ts",
        find: "deliver(hintOf(row, conv, session.name, versions.get(conversation) ?? 0, key));",
        replace:
          "deliver({ ...hintOf(row, conv, session.name, versions.get(conversation) ?? 0, key), only: requests[i].only });",
      },
      {
        file: "src/service/delivery.ts",
        find: "      if (session.ended || session.halfClosed) continue;",
        replace: "      if (session.ended || session.halfClosed || hint.only?.has(session) === false) continue;",
      },
    ],
    soak: cluster("log-in while commits wait", "--rate 100"),
    seenBy: "late",
  },
  {
    name: "read-before-the-claim",
    guarantee: "a log-in registers and claims, then reads what is stored: here it reads first",
    edits: [
      {
        file: "src/service/sessions.ts",
        find: "    this.router.add(session);\n    this.byConnection.set(connection, session);",
        replace: "    this.byConnection.set(connection, session);",
      },
      {
        file: "src/service/sessions.ts",
        find: "      await session.handover;\n      refuseEnded(session);\n      if (session.outdoneBy > session.epoch) throw replacedError();\n      return session;",
        replace:
          "      const { readBehind } = await import('./behind.ts');\n      Object.assign(session, { read: await readBehind(this.store, session) });\n      await session.handover;\n      refuseEnded(session);\n      if (session.outdoneBy > session.epoch) throw replacedError();\n      this.router.add(session);\n      return session;",
      },
      {
        file: "src/service/account.ts",
        find: "      readBehind(store, session),",
        replace: "      (session as unknown as { read: number }).read,",
      },
    ],
    soak: cluster("log-in while redis is silent", "--rate 100"),
    seenBy: "late",
  },
  {
    name: "cursor-without-epoch",
    guarantee:
      "a device's cursor is written by the log-in that owns it: one that was taken over unheard raises it no more",
    edits: [
      {
        file: "src/model/device.ts",
        find: "=> epochs.get(device) === epoch;",
        replace: "=> true;",
      },
    ],
    soak: cluster("taken over unheard", "--rate 50"),
    seenBy: "lost",
  },
];
