// npm run package: what is in the packages, and the .deb installed, upgraded, removed and purged in a root of its own.
import { beforeAll, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, join, resolve } from "node:path";
import { debianPackage } from "../../build/package.ts";
import { version } from "../../package.json" with { type: "json" };
import { MsgId } from "../../src/protocol.ts";
import { CHAT_SERVER, CHEAP_PASSWORDS, runProgram, startAs, temporaryFolder } from "../harness.ts";
import { Wire } from "../wire.ts";

const PROJECT = resolve(import.meta.dir, "../..");
const DOCUMENTS = ["README.md", "PROTOCOL.md", "CHANGELOG.md"].filter((name) => existsSync(join(PROJECT, name)));
/** Of everything in the packages, seconds since 1970. */
const EPOCH = 1_700_000_000;
const PACKAGE_MS = 100_000;
const ROOT_RIGHTS = process.getuid?.() === 0 ? [] : ["unshare", "-r"];

const folder = temporaryFolder();
const tarball = join(folder, `chatserver-${version}-linux-${process.arch}.tar.gz`);
let deb = "";
/** By Date.now(). */
let packedAt = 0;

/** Runs a program that must succeed; its output. */
async function run(command: string[]): Promise<string> {
  const { code, output, errors } = await runProgram(command, { env: process.env, cwd: PROJECT }, PACKAGE_MS);
  if (code !== 0) throw new Error(`${command.join(" ")}: exit code ${code}\n${output}${errors}`);
  return output + errors;
}

beforeAll(async () => {
  packedAt = Date.now();
  await run(["env", `SOURCE_DATE_EPOCH=${EPOCH}`, "node", "build/npm.mjs", "package", folder]);
  deb = join(folder, readdirSync(folder).find((name) => name.endsWith(".deb"))!);
}, PACKAGE_MS);

// Scenario: edit, build, commit, package. No source is newer than the executables, which name the commit before, "-dirty".
test("what is packed has just been built", () => expect(statSync(CHAT_SERVER).mtimeMs).toBeGreaterThan(packedAt));

test("the tarball has everything in one folder, dated as the commit, and its executables run", async () => {
  const name = `chatserver-${version}-linux-${process.arch}`;
  const listed = (await run(["tar", "-tvzf", tarball, "--utc"])).trim().split("\n");
  const files = listed.filter((line) => !line.startsWith("d")).map((line) => line.split(/\s+/));
  const expected = ["ChatServer", "ChatClient", ...DOCUMENTS, "COPYRIGHT"];
  const systemd = ["ChatServer@.service", "ChatServer@.socket", "chatserver.env", "nginx-stream.conf"];
  expect(files.map((fields) => fields[5])).toEqual(
    [...expected, ...systemd.map((each) => `systemd/${each}`)].map((each) => `${name}/${each}`),
  );
  for (const [mode, owner, , date, time, path] of files) {
    expect([owner, date, time]).toEqual(["root/root", "2023-11-14", "22:13"]);
    expect(mode).toBe(/\/Chat\w+$/.test(path!) ? "-rwxr-xr-x" : "-rw-r--r--");
  }
  const unpacked = temporaryFolder();
  await run(["tar", "-xzf", tarball, "-C", unpacked]);
  for (const program of ["ChatServer", "ChatClient"])
    expect(await run([join(unpacked, name, program), "--version"])).toStartWith(`${program} ${version}`);
  expect(readFileSync(join(unpacked, name, "COPYRIGHT"), "utf8")).toContain("ioredis ");
});

test(
  "the same commit gives the same .deb, byte for byte",
  async () => {
    const again = await debianPackage(EPOCH);
    expect(again.name).toBe(basename(deb));
    expect(again.content.equals(readFileSync(deb))).toBe(true);
  },
  PACKAGE_MS,
);

/** Whether the machine has Debian's tools; only one that is no Debian may be without. */
function hasDpkg(): boolean {
  if (Bun.which("dpkg") !== null) return true;
  expect(existsSync("/etc/debian_version")).toBe(false);
  return false;
}

test("Debian's tools read the .deb", async () => {
  if (!hasDpkg()) return;
  const field = async (name: string) => (await run(["dpkg-deb", "-f", deb, name])).trim();
  expect(await field("Package")).toBe("chatserver");
  expect(await field("Version")).toBe(version);
  expect(await field("Architecture")).toBe((await run(["dpkg", "--print-architecture"])).trim());
  expect(basename(deb)).toBe(`chatserver_${version}_${await field("Architecture")}.deb`);
  expect(await field("Depends")).toStartWith("libc6");
});

test(
  "installed, upgraded, removed and purged: the settings as Debian does it, the chats stay",
  async () => {
    if (!hasDpkg()) return;
    const root = temporaryFolder();
    const at = (path: string) => join(root, path);
    mkdirSync(at("var/lib/dpkg/info"), { recursive: true });
    mkdirSync(at("var/lib/dpkg/updates"));
    writeFileSync(at("var/lib/dpkg/status"), "");
    // The root is empty: there is no libc6, and no shell to change into it for.
    const options = [`--root=${root}`, "--force-depends", "--force-script-chrootless", "--force-confold"];
    const dpkg = (...rest: string[]) => run([...ROOT_RIGHTS, "dpkg", ...options, ...rest]);
    const state = (name: string) => at(`var/lib/chatserver/${name}`);
    const serve = (port: string) =>
      startAs([at("usr/bin/ChatServer"), "0", ...CHEAP_PASSWORDS], { env: { STATE_DIRECTORY: state(port) } });

    expect(await dpkg("-i", deb)).toContain("systemctl enable --now ChatServer@6000");
    const env = at("etc/chatserver/chatserver.env");
    expect(lstatSync(env).mode & 0o777).toBe(0o640);
    expect(readFileSync(env, "utf8")).toBe(readFileSync(join(PROJECT, "systemd/chatserver.env"), "utf8"));
    expect(await run(["dpkg", `--root=${root}`, "-V", "chatserver"])).toBe("");
    if (Bun.which("systemd-analyze") !== null)
      for (const unit of ["ChatServer@6000.service", "ChatServer@6000.socket"])
        expect(await run(["systemd-analyze", "verify", "--recursive-errors=no", `--root=${root}`, unit])).toBe("");

    // As systemd makes it for a dynamic user.
    mkdirSync(at("var/lib/private/chatserver/6000"), { recursive: true });
    mkdirSync(at("var/lib/chatserver"));
    symlinkSync("../private/chatserver/6000", state("6000"));
    const before = await serve("6000");
    const wire = await Wire.connect(before.port);
    const { id } = await wire.ask({ msgId: MsgId.register, name: "Ada", password: "at Debian's" });
    wire.close();
    await before.stop();
    writeFileSync(env, "CHAT_LOG_LEVEL=debug\n");
    writeFileSync(at("etc/chatserver/6000.env"), "CHAT_MAX_FRAME=1m\n");
    const wants = at("etc/systemd/system/multi-user.target.wants");
    mkdirSync(wants, { recursive: true });
    writeFileSync(join(wants, "ChatServer@6000.service"), "");

    const next = await debianPackage(EPOCH, "999.0.0-beta.1");
    expect(next.name).toContain("_999.0.0~beta.1_");
    writeFileSync(join(folder, next.name), next.content);
    await dpkg("-i", join(folder, next.name));
    expect(readFileSync(env, "utf8")).toBe("CHAT_LOG_LEVEL=debug\n");
    const after = await serve("6000");
    const again = await Wire.connect(after.port);
    expect(await again.ask({ msgId: MsgId.login, id, password: "at Debian's" })).toMatchObject({
      errno: 0,
      name: "Ada",
    });
    again.close();
    await after.stop();

    await dpkg("-r", "chatserver");
    expect(existsSync(at("usr/bin/ChatServer"))).toBe(false);
    expect(existsSync(at("usr/lib/systemd/system/ChatServer@.service"))).toBe(false);
    expect(readdirSync(at("etc/chatserver")).sort()).toEqual(["6000.env", "chatserver.env"]);
    expect(readdirSync(wants)).toEqual(["ChatServer@6000.service"]);
    expect(existsSync(state("6000/chat.db"))).toBe(true);

    expect(await dpkg("-P", "chatserver")).toContain("The chats are kept");
    expect(existsSync(at("etc/chatserver"))).toBe(false);
    expect(readdirSync(wants)).toEqual([]);
    expect(existsSync(state("6000/chat.db"))).toBe(true);
  },
  PACKAGE_MS,
);

test("the package's scripts are sound shell", async () => {
  for (const script of readdirSync(join(PROJECT, "build/debian")))
    expect(await run(["sh", "-n", join(PROJECT, "build/debian", script)])).toBe("");
});
