// Loaded before all tests (see bunfig.toml): under the test runner a process's "exit" is not told.
import { afterAll } from "bun:test";
import { cleanUp } from "./harness.ts";

afterAll(cleanUp);
