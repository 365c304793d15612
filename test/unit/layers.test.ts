// Imports point downward only: main -> service -> model -> db, and net knows nothing of any of them.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";

const SRC = resolve(import.meta.dir, "../../src");

/** Folder (or file) -> what it may import of the others, beside itself. */
const MAY_IMPORT: Record<string, string[]> = {
  "protocol.ts": [],
  "start-error.ts": [],
  "flag-values.ts": [],
  "print.ts": [],
  "quiet.ts": [],
  "sql.d.ts": [],
  "start.ts": ["main.ts"],
  "libc.ts": [],
  "systemd.ts": ["libc.ts", "start-error.ts"],
  "log.ts": ["protocol.ts"],
  "cli.ts": ["protocol.ts", "flag-values.ts", "print.ts", "db", "net", "router"],
  net: ["protocol.ts", "start-error.ts", "libc.ts"],
  db: ["protocol.ts", "start-error.ts", "flag-values.ts", "libc.ts"],
  model: ["protocol.ts", "db"],
  router: ["protocol.ts", "start-error.ts", "flag-values.ts", "db"],
  service: ["protocol.ts", "db", "model", "net", "router"],
  client: ["protocol.ts", "flag-values.ts", "print.ts", "net"],
  "store-worker.ts": ["db", "model"],
  "checkpoint-worker.ts": ["db"],
  "open-store.ts": ["cli.ts", "db", "model", "service"],
  tools: ["cli.ts", "print.ts", "protocol.ts", "start-error.ts", "db", "model", "service"],
  "main.ts": [
    "open-store.ts",
    "tools",
    "cli.ts",
    "log.ts",
    "start-error.ts",
    "flag-values.ts",
    "db",
    "model",
    "net",
    "router",
    "service",
    "quiet.ts",
    "systemd.ts",
  ],
};

/** Each library is imported in one file. */
const LIBRARIES: Record<string, string> = {
  cac: "cli.ts",
  consola: "log.ts",
  "bun:ffi": "libc.ts",
  mysql2: "db/mysql-connection.ts",
  ioredis: "router/redis-client.ts",
};

const files = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? files(join(folder, entry.name)) : [join(folder, entry.name)],
  );

const imports = (file: string): string[] =>
  [...readFileSync(file, "utf8").matchAll(/^(?:import|export)\b[^;]*? from "([^"]+)"/gms)].map((match) => match[1]!);

const layerOf = (path: string): string => path.split("/")[0]!;

test("every file imports only from its own layer and those below", () => {
  const wrong: string[] = [];
  let seen = 0;
  for (const file of files(SRC)) {
    const layer = layerOf(relative(SRC, file));
    expect(Object.keys(MAY_IMPORT)).toContain(layer);
    for (const imported of imports(file)) {
      seen++;
      if (imported.startsWith(".")) {
        const path = relative(SRC, resolve(file, "..", imported));
        const target = layerOf(path);
        if (path.startsWith("../sql/") || target === layer || MAY_IMPORT[layer]!.includes(target)) continue;
      } else if (LIBRARIES[imported] === undefined || LIBRARIES[imported] === relative(SRC, file)) continue;
      wrong.push(`${relative(SRC, file)} imports ${imported}`);
    }
  }
  expect(seen).toBeGreaterThan(50);
  expect(wrong).toEqual([]);
});

test("the network part is told of messages by callbacks, and the SQL is in model, db and tools alone", () => {
  for (const file of files(SRC)) {
    const path = relative(SRC, file);
    const layer = layerOf(path);
    if (["model", "db", "tools", "cli.ts"].includes(layer) || !path.endsWith(".ts")) continue;
    expect([path, /\b(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b/.test(readFileSync(file, "utf8"))]).toEqual([
      path,
      false,
    ]);
  }
});
