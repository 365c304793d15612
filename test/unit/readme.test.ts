// What the README says of flags and files is so.
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { CHAT_SERVER, runProgram } from "../harness.ts";

const ROOT = resolve(import.meta.dir, "../..");
const readme = readFileSync(join(ROOT, "README.md"), "utf8");

test("the configuration table lists every flag with its variable, and no other", async () => {
  const { output } = await runProgram([CHAT_SERVER, "--help"]);
  const real = [...output.matchAll(/^ {2}(--[a-z-]+)[^$\n]*.*\$(CHAT_[A-Z_]+)\)/gm)].map((match) => match.slice(1, 3));
  const told = [...readme.matchAll(/^\| `(--[a-z-]+)` \| `(CHAT_[A-Z_]+)` \|/gm)].map((match) => match.slice(1, 3));
  expect(real.length).toBeGreaterThan(15);
  expect(told).toEqual(real);
});

test("every default in the table is the help's", async () => {
  const { output } = await runProgram([CHAT_SERVER, "--help"]);
  for (const [, flag, told] of readme.matchAll(/^\| `(--[a-z-]+)` \| `CHAT_[A-Z_]+` \| ([^|]+) \|/gm)) {
    if (told === "see below") continue;
    expect(output).toMatch(new RegExp(`^ {2}${flag}\\b.*\\(default ${told!.replaceAll(".", "\\.")};`, "m"));
  }
});

test("the files and npm scripts that it names exist", () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  for (const [, run, short] of readme.matchAll(/`?npm (?:run ([a-z]+)|(start|test))\b/g))
    expect(Object.keys(scripts)).toContain((run ?? short)!);
  const layout = readme.slice(readme.indexOf("## Source layout"));
  let seen = 0;
  for (const [, cell] of layout.matchAll(/^\| ([^|]+) \|/gm)) {
    let folder = "";
    for (const [, path] of cell!.matchAll(/`([\w./*-]+)`/g)) {
      if (path!.includes("/")) folder = path!.endsWith("/") ? path! : dirname(path!);
      const full = path!.includes("/") ? path! : join(folder, path!);
      if (full.includes("*") || !/[./]/.test(path!)) continue;
      seen++;
      expect([full, existsSync(join(ROOT, full))]).toEqual([full, true]);
    }
  }
  expect(seen).toBeGreaterThan(30);
});
