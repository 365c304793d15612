// The soak of the embedded store in short (npm run soak -- --embedded): every fault once, and everything counted. Each of
// these makes it fail: an acknowledgement before the commit; a journal that is not replayed, or replayed without its mids; a
// fold that loses a row, leaves last_seq or forgets the mids that do not ascend; ranges of mids that are not looked at; a failed
// transaction that is not undone; readers refused with the writers beside them; delivery without the confirmation.
import { expect, test } from "bun:test";
import { runEmbedded } from "../soak/embedded.ts";
import { BAD } from "../soak/ledger.ts";

test("whatever happens to a server and to its files, nothing is lost, doubled, out of order or stuck", async () => {
  const seed = 1 + Math.floor(Math.random() * 999_999);
  const said = [`seed ${seed}`];
  const outcome = await runEmbedded({
    seed,
    kills: 12,
    longestMs: 800,
    settleMs: 1_000,
    rate: 500,
    only: [],
    say: (line) => said.push(line),
  });
  const { unhealthy, injected, checks, ledger, server } = outcome;
  const { findings } = ledger;
  const what = [...said, ...findings.examples].join("\n");
  expect(findings.counts, what).toEqual(
    Object.fromEntries(Object.keys(BAD).map((bad) => [bad, 0])) as typeof findings.counts,
  );
  expect(unhealthy, what).toEqual([]);
  // What is not possible here says why.
  for (const [fault, count] of injected) expect(count, `${fault} was not injected`).not.toBe(0);
  expect(server.kills).toBeGreaterThanOrEqual(12);
  expect(checks.map(({ verdict }) => verdict)).toEqual(checks.map(() => "ok"));
  expect(checks.at(-1)!.rows).toBeGreaterThanOrEqual(ledger.acked);
  expect(ledger.acked).toBeGreaterThan(500);
}, 240_000);
