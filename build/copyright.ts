// The licences of what the executables contain: ours, and those of the packages compiled into them.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface Locked {
  version?: string;
  license?: string;
  dev?: boolean;
}

/** One text: the project's licence, then each package with its version, licence and the licence's text. */
export function copyright(root: string): string {
  const read = (path: string) => readFileSync(join(root, path), "utf8");
  const { packages } = JSON.parse(read("package-lock.json")) as { packages: Record<string, Locked> };
  const bun = packages["node_modules/bun"]?.version;
  const parts = [
    `ChatServer\n\n${read("LICENSE")}`,
    `The executables contain Bun ${bun} (MIT licence, https://bun.sh), which links JavaScriptCore and WebKit (LGPL 2)\n` +
      "and the libraries listed at https://bun.sh/docs/project/licensing, and these packages:\n",
  ];
  for (const [folder, { version, license, dev }] of Object.entries(packages)) {
    if (dev || folder === "" || !existsSync(join(root, folder))) continue;
    const file = readdirSync(join(root, folder)).find((name) => /^licen[cs]e/i.test(name));
    if (file === undefined) throw new Error(`${folder} has no licence file to pass on`);
    parts.push(
      `${folder.replace("node_modules/", "")} ${version} (${license})\n\n${read(join(folder, file)).trim()}\n`,
    );
  }
  return parts.join(`\n${"-".repeat(80)}\n\n`);
}
