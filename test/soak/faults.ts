// All that can go wrong with a cluster.
import type { Fault } from "./fault.ts";
import { clientFaults } from "./faults-clients.ts";
import { clockFaults } from "./faults-clock.ts";
import { instanceFaults } from "./faults-instances.ts";
import { mariadbFaults } from "./faults-mariadb.ts";
import { moveFaults } from "./faults-moves.ts";
import { redisFaults } from "./faults-redis.ts";

export const FAULTS: Fault[] = [
  ...instanceFaults,
  ...clientFaults,
  ...clockFaults,
  ...redisFaults,
  ...mariadbFaults,
  ...moveFaults,
];
