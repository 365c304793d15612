// What a fault of the soak is, and the world that it acts on.
import type { RunningServer } from "../harness.ts";
import type { RunningMariadb, RunningRedis } from "../services.ts";
import type { Gate } from "./gate.ts";
import type { Bad } from "./ledger.ts";
import type { Random } from "./random.ts";

/** Something that goes wrong, and right again. */
export interface Fault {
  /** Of the table and of `--faults`, such as "redis kill". */
  readonly name: string;
  /** How often it is chosen, compared with others; 1 where it is left out. */
  readonly weight?: number;
  /** Why it cannot be injected on this machine, such as a program that is missing: told in the table. */
  unavailable?(): string | null;
  /**
   * Injects it, waits a random time (`world.wait`), lifts it, and resolves once it is lifted. What it acts on it claims
   * first, as others run at the same time; it begins where `world.begin` is called. Rejecting is a fault of the soak.
   */
  inject(world: World): Promise<void>;
}

/** One server of the cluster. */
export interface Instance {
  readonly index: number;
  /** Where it listens, the same after each start. */
  readonly port: number;
  /** What stands between it and the services: of its own, so that it alone can lose them. */
  readonly toMariadb: Gate;
  readonly toRedis: Gate;
  /** Null where it is not running. */
  readonly running: RunningServer | null;
  /** Starts it, again and again until it is ready: a database may be away. */
  start(): Promise<void>;
  /** Ends it with a signal; the exit code, or null where the signal ended it. */
  kill(signal: "SIGKILL" | "SIGTERM"): Promise<number | null>;
  /** SIGSTOP and SIGCONT. */
  pause(): void;
  resume(): void;
}

/** One device of a user of the crowd, on the SDK. It reconnects by itself, to another instance each time. */
export interface Device {
  readonly userId: number;
  readonly name: string;
  readonly confirms: boolean;
  /** What stands between it and the instances. */
  readonly gate: Gate;
  /** The instance that it is connected to; null where it is not. */
  readonly instance: Instance | null;
  /** performance.now() of its last log-in. */
  readonly onlineAt: number;
  /** Logs in anew on `instance`, as another program with the same account would, and goes on there. */
  takeOver(instance: Instance): Promise<void>;
}

/**
 * What comes back or goes, for the recovery times. `instance`: only this one has lost it; else all of them.
 * instance-died: from then its users must get on elsewhere. redis-returned: from then messages are live again between
 * instances. database-returned: from then there are acknowledgements.
 */
export type Mark = "instance-died" | "redis-returned" | "database-returned";

export interface World {
  /** Of this injection alone: the same seed makes the same choices. */
  readonly random: Random;
  readonly mariadb: RunningMariadb;
  readonly redis: RunningRedis;
  /** Of the instances' database, directly and not by a gate. */
  readonly databaseUrl: string;
  readonly instances: readonly Instance[];
  readonly devices: readonly Device[];
  /** The instance that is never ended, so that its memory can be followed from the beginning to the end. */
  readonly spared: Instance;
  /**
   * Waits until nobody else holds any of these, then holds them all, until the function that it resolves with is
   * called. By convention: "mariadb", "redis" (the servers themselves), "mariadb 0", "redis 0" (the way of instance 0 to
   * them), "instance 0" (its process), "device 3", "clients" (all of them).
   */
  claim(...names: string[]): Promise<() => void>;
  /** From now on the fault counts, as one of its kind: `detail` goes to the protocol. */
  begin(detail?: string): void;
  /** Waits; shorter where the soak ends. */
  wait(ms: number): Promise<void>;
  /** Something that must never happen was seen. */
  find(bad: Bad, what: string): void;
  /** Tells of what recovery times are counted from; call it at the very moment. */
  mark(mark: Mark, instance?: Instance): void;
}
