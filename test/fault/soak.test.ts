// The soak in short: many faults at once, on a cluster under load, and everything counted. `npm run soak` is the long form.
import { expect, test } from "bun:test";
import { FAULTS } from "../soak/faults.ts";
import { report } from "../soak/report.ts";
import { soak } from "../soak/soak.ts";

const SEED = 20_261_124;
const FAULTS_AT_LEAST = 20;

test("nothing is lost, doubled, out of order or stuck while everything fails", async () => {
  console.log(`soak in short: npm run soak -- --seed ${SEED}`);
  const told: string[] = [];
  const outcome = await soak({
    seed: SEED,
    ms: 30_000,
    users: 12,
    rate: 400,
    instances: 3,
    faults: FAULTS,
    crowded: FAULTS_AT_LEAST,
    // Longer than the lease of 6 s.
    longestMs: 8_000,
    log: null,
    tell: (line) => told.push(line),
  });
  const { findings, schedule, ledger, store } = outcome;
  // On a failure: how it went, the table, and what was found.
  if (findings.total > 0) console.log([...told, ...report(outcome).lines, ...findings.examples].join("\n"));
  expect(Object.entries(findings.counts).filter(([, count]) => count > 0)).toEqual([]);
  expect(schedule.injected).toBeGreaterThanOrEqual(FAULTS_AT_LEAST);
  expect(ledger.acked).toBeGreaterThanOrEqual(500);
  expect(ledger.acked).toBe(ledger.sent);
  expect(store.rows).toBe(ledger.acked);
  expect(ledger.told).toBeGreaterThanOrEqual(3 * ledger.acked);
}, 300_000);
