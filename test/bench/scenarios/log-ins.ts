// Log-ins: with a token and with a password, each with its log-out, beside what the hash allows.
import type { Arguments } from "../arguments.ts";
import { coresOf, limit, meterOf, type Sample, type Scenario, single } from "../case.ts";
import { type Credentials, driveLogins } from "../load/log-ins.ts";
import { logIn, PASSWORD, register } from "../load/people.ts";
import { connect } from "../peer.ts";
import { during, type RunningTarget, startServer, type Target } from "../target.ts";

/** Who log in and out at once. */
const WITH_TOKEN = 100;
const WITH_PASSWORD = 32;
/** The server's default hash (see --password-memory and --password-time). */
const HASH = { algorithm: "argon2id", memoryCost: 19 * 1024, timeCost: 2 } as const;
const HASHES_AT_ONCE = 16;

/** Log-ins with tokens, on the port of `senders`. */
export async function measureTokens(target: Target, reconnect: boolean, given: Arguments): Promise<Sample> {
  const users = await register(target.senders, WITH_TOKEN);
  const credentials: Credentials[] = [];
  for (const user of users) {
    const peer = await connect(target.senders);
    const { token } = await logIn(peer, user);
    peer.socket.end();
    credentials.push({ id: user.id, token: token as string });
  }
  return measure(target, credentials, reconnect, given);
}

async function measure(target: Target, who: Credentials[], reconnect: boolean, given: Arguments): Promise<Sample> {
  const meter = meterOf(target);
  const measured = await driveLogins(target.senders, who, reconnect, { ...given, meter });
  const { acked, seconds, p50, p99 } = measured;
  return { rate: acked / seconds, p50, p99, ...coresOf(target, meter, acked) };
}

const withTokens = (reconnect: boolean, given: Arguments) => (server: RunningTarget) =>
  measureTokens(server, reconnect, given);

export const logIns: Scenario = {
  name: "log-ins",
  about: "log-ins with token and with password (the default hash), beside argon2id alone",
  cases: (given) => [
    single("token", (build) => during(startServer(build), withTokens(false, given))),
    single("token, new connection each", (build) => during(startServer(build), withTokens(true, given))),
    single("password", (build) =>
      during(startServer(build, []), async (server) => {
        const users = await register(server.port, WITH_PASSWORD);
        const who = users.map(({ id }) => ({ id, password: PASSWORD }));
        return measure(server, who, false, given);
      }),
    ),
    limit("argon2id alone", async () => ({ rate: await hashRate(given.seconds) })),
  ],
};

/** Verifications a second of this process, on all cores. */
async function hashRate(seconds: number): Promise<number> {
  const hash = await Bun.password.hash(PASSWORD, HASH);
  const startedAt = performance.now();
  let verified = 0;
  const work = async () => {
    for (; performance.now() - startedAt < seconds * 1000; verified++) await Bun.password.verify(PASSWORD, hash);
  };
  await Promise.all(Array.from({ length: HASHES_AT_ONCE }, work));
  return verified / ((performance.now() - startedAt) / 1000);
}
