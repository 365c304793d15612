// The programs that the integration tests need and npm does not bring: MariaDB, Redis and nginx. Used if installed; on
// Debian and Ubuntu "npm test" run by root installs them, without starting any service.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";

const FOLDERS = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"];
/** Debian's hook against starting installed services: a program that packages ask first. */
const POLICY = "/usr/sbin/policy-rc.d";
const LOCK_SECONDS = 300;

/** Debian package -> whether what it provides is here. */
const SERVICES = {
  "mariadb-server": () => isProgram("mariadbd") && isProgram("mariadb-install-db"),
  "redis-server": () => isProgram("redis-server"),
  nginx: () => isProgram("nginx"),
  "libnginx-mod-stream": hasStreamModule,
};

function find(name) {
  return FOLDERS.map((folder) => join(folder, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const isProgram = (name) => find(name) !== undefined;

/** Whether nginx can balance TCP: the module is built in, or lies where it looks for modules. */
function hasStreamModule() {
  const nginx = find("nginx");
  if (nginx === undefined) return false;
  const configured = spawnSync(nginx, ["-V"], { encoding: "utf8" }).stderr.split(/\s+/);
  if (configured.includes("--with-stream")) return true;
  const folder = configured.find((option) => option.startsWith("--modules-path="))?.split("=")[1];
  return folder !== undefined && existsSync(join(folder, "ngx_stream_module.so"));
}

const missing = () => Object.keys(SERVICES).filter((name) => !SERVICES[name]());

/**
 * Makes sure that the services' programs are here. Returns null, or what somebody has to do about it. Progress is
 * reported to `say`.
 */
export function ensureServices(say) {
  const wanted = missing();
  if (wanted.length === 0) return null;
  const command = `apt-get install --no-install-recommends ${wanted.join(" ")}`;
  if (process.getuid?.() !== 0 || !isProgram("apt-get"))
    return `the tests need programs that are missing here. As root on Debian or Ubuntu: ${command}`;
  say(`installing ${wanted.join(", ")} (nothing of it is started)…`);
  const output = withoutStarts(() => aptInstall(wanted));
  const left = missing();
  if (left.length === 0) return null;
  say(output);
  return `${left.join(", ")} could not be installed, apt-get's messages are above. Try: ${command}`;
}

/** Installs packages; returns apt-get's output. */
function aptInstall(packages) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const options = ["-q", "-y", "--no-install-recommends", "-o", `DPkg::Lock::Timeout=${LOCK_SECONDS}`];
  const run = (args) => {
    const { stdout, stderr } = spawnSync("apt-get", [...options, ...args], { env, encoding: "utf8" });
    return `${stdout}${stderr}`;
  };
  // The package lists may be missing or outdated.
  return run(["update"]) + run(["install", ...packages]);
}

/** Runs `install` while packages are kept from starting services; an existing policy is left alone. */
function withoutStarts(install) {
  const ours = !existsSync(POLICY);
  if (ours) writeFileSync(POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755, flag: "wx" });
  try {
    return install();
  } finally {
    if (ours) rmSync(POLICY, { force: true });
  }
}
