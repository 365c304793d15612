// All that can be measured, in the order in which it is.
import type { Scenario } from "./case.ts";
import { cluster } from "./scenarios/cluster.ts";
import { group } from "./scenarios/group.ts";
import { backlog, groupSize, history, users } from "./scenarios/growth.ts";
import { idle } from "./scenarios/idle.ts";
import { logIns } from "./scenarios/log-ins.ts";
import { memory } from "./scenarios/memory.ts";
import { offline } from "./scenarios/offline.ts";
import { oneToOne } from "./scenarios/one-to-one.ts";
import { openLoop } from "./scenarios/open-loop.ts";
import { overload } from "./scenarios/overload.ts";
import { slowReader } from "./scenarios/slow-reader.ts";

export const SCENARIOS: Scenario[] = [
  oneToOne,
  group,
  openLoop,
  offline,
  logIns,
  idle,
  users,
  groupSize,
  history,
  backlog,
  slowReader,
  overload,
  cluster,
  memory,
];
