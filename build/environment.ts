// Writes systemd/chatserver.env, the environment file of the units, from the output of ChatServer --help. Run it after
// changing options: node_modules/.bin/bun build/environment.ts (a test compares the two).
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";

const root = resolve(import.meta.dir, "..");
const HEAD = `# Options for all ChatServer instances. Options for one instance, such as the one on port 6000, belong in
# /etc/chatserver/6000.env and take precedence. The port is the instance's name (ChatServer@6000). To apply a change:
#
#     systemctl restart 'ChatServer@*.service'
#
# Only root can read this file, because it may hold database passwords. Paths that the server writes to must lie in its
# state directory, /var/lib/chatserver/PORT. Each option below shows the value that applies while it is commented out.
`;

/** The environment file for the options in `help`; `unit` may set some of them. */
export function environmentFile(help: string, unit: string): string {
  const set = new Map([...unit.matchAll(/^Environment=(CHAT_\w+)=(.*)$/gm)].map(([, name, value]) => [name!, value!]));
  const options = [...help.matchAll(/^ +--\S+(?: <(\w+)>)? +(.*) \(default (.*); \$(CHAT_\w+)\) *$/gm)];
  if (options.length === 0) throw new Error("the help has no options");
  const lines = options.map(([, value, text, otherwise, name]) => {
    const here = set.get(name!);
    const kind = [value, here === undefined ? `default ${otherwise}` : `set to ${here} by the unit`];
    const example = here ?? (/^[\w.,:/-]+$/.test(otherwise!) && otherwise !== "none" ? otherwise : "");
    return `\n# ${text} (${kind.filter(Boolean).join("; ")})\n#${name}=${example}\n`;
  });
  return HEAD + lines.join("");
}

/** What the repository's file should be now. */
export function currentEnvironmentFile(): string {
  const help = Bun.spawnSync([process.execPath, "src/main.ts", "--help"], { cwd: root }).stdout.toString();
  return environmentFile(help, readFileSync(resolve(root, "systemd/ChatServer@.service"), "utf8"));
}

if (import.meta.main) writeFileSync(resolve(root, "systemd/chatserver.env"), currentEnvironmentFile());
