// Starts the real nginx for tests, with the configuration that ships: only the ports are others.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { freePort, temporaryFolder, until } from "./harness.ts";

export const SHIPPED = resolve(import.meta.dir, "../systemd/nginx-stream.conf");
const READY_MS = 10_000;

export interface RunningNginx {
  port: number;
  /** What it has logged so far. */
  log(): string;
  /** Adds an instance to the configuration and reloads it. Returns before the new one is in force. */
  addInstance(port: number): void;
  stop(): Promise<void>;
}

/** Starts nginx in front of two instances on 127.0.0.1. Rejects where it is not installed, and with its log where it fails. */
export async function startNginx(first: number, second: number): Promise<RunningNginx> {
  return start(installed(), freePort(), [first, second]);
}

interface Program {
  nginx: string;
  streamModule: string;
}

/** Where they are. Throws with the packages' names where they are not installed. */
function installed(): Program {
  const nginx = Bun.which("nginx", { PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` });
  if (nginx === null) throw new Error("nginx is not installed: apt install nginx libnginx-mod-stream");
  const { stderr } = Bun.spawnSync([nginx, "-V"]);
  const modules = /--modules-path=(\S+)/.exec(stderr.toString())?.[1] ?? "/usr/lib/nginx/modules";
  const streamModule = join(modules, "ngx_stream_module.so");
  if (!existsSync(streamModule))
    throw new Error(`nginx has no stream module (${streamModule}): apt install libnginx-mod-stream`);
  return { nginx, streamModule };
}

async function start({ nginx, streamModule }: Program, port: number, instances: number[]): Promise<RunningNginx> {
  const folder = temporaryFolder();
  const main = join(folder, "nginx.conf");
  writeFileSync(
    main,
    `load_module ${streamModule};
daemon off;
worker_processes 2;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
include ${folder}/stream.conf;
`,
  );
  const configure = () => writeFileSync(join(folder, "stream.conf"), configuration(port, instances));
  const run = [nginx, "-p", folder, "-c", main, "-e", "stderr"];
  configure();
  const master = Bun.spawn(run, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  started.add(master);
  let log = "";
  const logged = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of master.stderr) log += decoder.decode(chunk, { stream: true });
  })();
  const exited = Promise.all([master.exited, logged]).then(() => started.delete(master));
  // Written when it listens.
  const ready = () => master.exitCode !== null || existsSync(join(folder, "nginx.pid"));
  await until(ready, `nginx ready:\n${log}`, READY_MS);
  if (master.exitCode !== null) {
    await exited;
    throw new Error(`nginx ended before it was ready:\n${log}`);
  }
  return {
    port,
    log: () => log,
    addInstance: (instance) => {
      instances.push(instance);
      configure();
      const { exitCode, stderr } = Bun.spawnSync([...run, "-s", "reload"]);
      if (exitCode !== 0) throw new Error(`nginx -s reload: ${stderr}`);
    },
    stop: async () => {
      master.kill("SIGTERM");
      await exited;
    },
  };
}

/** The shipped file with other ports, and a line like the second instance's for each further one. */
function configuration(port: number, [first, second, ...more]: number[]): string {
  const shipped = readFileSync(SHIPPED, "utf8");
  const line = /^ *server 127\.0\.0\.1:6002 .*\n/m.exec(shipped)?.[0];
  if (line === undefined || !shipped.includes("server 127.0.0.1:6000 ") || !shipped.includes("listen 8000 "))
    throw new Error(`${SHIPPED} has other ports than 8000, 6000 and 6002`);
  const further = more.map((instance) => line.replace(":6002 ", `:${instance} `)).join("");
  return shipped
    .replace(line, line.replace(":6002 ", `:${second} `) + further)
    .replace("127.0.0.1:6000 ", `127.0.0.1:${first} `)
    .replaceAll("listen 8000 ", `listen ${port} `);
}

/** Those that are still running: ended with the test process, with their workers. */
const started = new Set<Bun.Subprocess>();
process.on("exit", () => {
  for (const master of started) master.kill("SIGTERM");
});
