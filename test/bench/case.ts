// What a benchmark is made of: scenarios, their cases, and what one measurement of a case gives.
import type { Arguments } from "./arguments.ts";
import type { Measured } from "./load/tally.ts";
import { Meter } from "./meter.ts";
import type { Build, Target } from "./target.ts";

/** What one measurement found, by metric (see report.ts). */
export type Sample = Record<string, number>;

export interface Case {
  /** Unique in its scenario. */
  name: string;
  /** Measures `times` times, each time a sample. */
  measure(build: Build, times: number): Promise<Sample[]>;
  /** Setting it up takes long: all measurements of a run are made on one server. */
  dear?: boolean;
  /** What the machine or a part can do alone: no build is measured. */
  limit?: boolean;
}

export interface Scenario {
  name: string;
  /** One line of the help and above its table. */
  about: string;
  /** Only where it is asked for by name or by a flag. */
  onRequest?: boolean;
  /** Why it cannot be measured here. */
  unable?: string | null;
  cases(given: Arguments): Case[];
  /** Ends what its cases left running. */
  close?(): Promise<void>;
}

/** A case that starts anew for every measurement. */
export const single = (name: string, measure: (build: Build) => Promise<Sample>): Case => ({
  name,
  measure: async (build, times) => {
    const samples: Sample[] = [];
    for (let i = 0; i < times; i++) samples.push(await measure(build));
    return samples;
  },
});

/** A limit: beside what is measured, and the same for every build. */
export const limit = (name: string, measure: (build: Build) => Promise<Sample>): Case => ({
  ...single(name, measure),
  limit: true,
});

/** A meter of the target's processes, and of this one behind them. */
export const meterOf = ({ processes }: Target): Meter => new Meter([...Object.values(processes), process.pid]);

/** Messages, deliveries … a second, their latencies, and what they cost: per unit, of all the target's processes together. */
export function sampleOf({ processes }: Target, meter: Meter, measured: Measured, units = measured.delivered): Sample {
  const { acked, refused, seconds, p50, p99, p999 } = measured;
  return {
    rate: units / seconds,
    acked: acked / seconds,
    p50,
    p99,
    p999,
    ...coresOf({ processes }, meter, units),
    lost: 0,
    refused,
  };
}

/** Shares of a processor of the target's processes and of the load generator; microseconds of the former per unit of work. */
export function coresOf({ processes }: Pick<Target, "processes">, meter: Meter, units: number): Sample {
  const names = Object.keys(processes);
  const cores = names.map((name, i) => [`${name} cores`, meter.cores[i]!]);
  const all = meter.cores.slice(0, names.length).reduce((sum, each) => sum + each, 0);
  return {
    ...Object.fromEntries(cores),
    "load cores": meter.cores.at(-1)!,
    micros: units > 0 ? (all * meter.seconds * 1e6) / units : 0,
  };
}
