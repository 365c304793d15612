import { expect, test } from "bun:test";
import { Claims } from "../../src/service/claims.ts";
import type { Session } from "../../src/service/session.ts";
import { until } from "../harness.ts";

const sessions = Array.from({ length: 1_200 }, () => ({ epoch: 1, ended: false }) as Session);

test("emptied again while the sessions are being entered, it gets those too that had been entered already", async () => {
  let held = new Set<Session>();
  let resets = 0;
  const claims = new Claims(sessions, async (session) => {
    await null;
    held.add(session);
    // In the second portion of the first round: the first one is lost, and nobody is in its way.
    if (held.size < 700 || resets > 0) return;
    resets++;
    held = new Set();
    claims.claimAll();
  });
  await claims.claimAll();
  expect(resets).toBe(1);
  expect(held.size).toBe(sessions.length);
});

test("what it has lost unnoticed comes back in turn, and who has left does not", async () => {
  const held = new Set<Session>();
  const claims = new Claims(sessions, async (session) => held.add(session));
  for (let turn = 0; turn < 3; turn++) claims.refresh();
  await until(() => held.size === sessions.length, "all of them");
  const [lost, left] = sessions as [Session, Session];
  held.delete(lost);
  held.delete(left);
  left.ended = true;
  for (let turn = 0; turn < 3; turn++) claims.refresh();
  await until(() => held.has(lost), "the lost one");
  expect(held.size).toBe(sessions.length - 1);
  left.ended = false;
});
