// Packages build/ChatServer and build/ChatClient in build/dist (or the folder given): as a tarball and a .deb. The same
// commit gives the same bytes. Run by build/npm.mjs.
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { constants, createGzip, createZstdCompress } from "node:zlib";
import { $, CryptoHasher } from "bun";
import { version } from "../package.json" with { type: "json" };
import { ar, type Entry, tar } from "./archive.ts";
import { copyright } from "./copyright.ts";

const root = resolve(import.meta.dir, "..");
const NAME = "chatserver";
const MAINTAINER = "The ChatServer authors <chatserver@localhost>";
/** Node's names of architectures -> Debian's. */
const DEBIAN_ARCHITECTURES: Record<string, string> = { x64: "amd64", arm64: "arm64" };
const EXECUTABLES = ["ChatServer", "ChatClient"];
const DOCUMENTS = ["README.md", "PROTOCOL.md", "CHANGELOG.md"];
const UNITS = ["ChatServer@.service", "ChatServer@.socket"];
const ENVIRONMENT_FILE = "etc/chatserver/chatserver.env";

/** Both executables hold the same runtime: a window larger than one of them finds the second copy (half the size). */
const ZSTD_WINDOW_LOG = 27;
const ZSTD_LEVEL = 9;

const take = (from: string, path: string, mode = 0o644): Entry => ({
  path,
  mode,
  content: readFileSync(join(root, from)),
});

const text = (path: string, content: string, mode = 0o644): Entry => ({ path, mode, content: Buffer.from(content) });

const documents = (folder: string): Entry[] =>
  DOCUMENTS.filter((name) => existsSync(join(root, name))).map((name) => take(name, `${folder}/${name}`));

/** The date of everything in the packages: the commit's, in seconds. */
async function readEpoch(): Promise<number> {
  if (process.env.SOURCE_DATE_EPOCH) return Number(process.env.SOURCE_DATE_EPOCH);
  const git = await $`git --git-dir=.git log -1 --format=%ct`.cwd(root).quiet().nothrow();
  return git.exitCode === 0 ? Number(git.text()) : Math.floor(statSync(join(root, "package.json")).mtimeMs / 1000);
}

/** The tarball: one folder that holds everything. */
async function tarball(epoch: number): Promise<{ name: string; content: Buffer }> {
  const name = `${NAME}-${version}-linux-${process.arch}`;
  const entries = [
    ...EXECUTABLES.map((each) => take(`build/${each}`, `${name}/${each}`, 0o755)),
    ...documents(name),
    text(`${name}/COPYRIGHT`, copyright(root)),
    ...[...UNITS, "chatserver.env", "nginx-stream.conf"].map((each) =>
      take(`systemd/${each}`, `${name}/systemd/${each}`),
    ),
  ];
  return { name: `${name}.tar.gz`, content: await buffer(Readable.from(tar(entries, epoch)).pipe(createGzip())) };
}

/** The Debian package, for Debian 12 and Ubuntu 18.04 or later (zstd). `release`: its version. */
export async function debianPackage(epoch: number, release = version): Promise<{ name: string; content: Buffer }> {
  const architecture = DEBIAN_ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`Debian has no name here for the processor ${process.arch}`);
  // "~" sorts a prerelease before its release.
  const debianVersion = release.replaceAll("-", "~");
  const doc = `usr/share/doc/${NAME}`;
  const files = [
    { ...take("systemd/chatserver.env", ENVIRONMENT_FILE), mode: 0o640 },
    ...EXECUTABLES.map((each) => take(`build/${each}`, `usr/bin/${each}`, 0o755)),
    ...UNITS.map((each) => take(`systemd/${each}`, `usr/lib/systemd/system/${each}`)),
    ...documents(doc),
    text(`${doc}/copyright`, copyright(root)),
    take("systemd/nginx-stream.conf", `${doc}/examples/nginx-stream.conf`),
  ];
  const installedKiB = Math.ceil(files.reduce((sum, { content }) => sum + content.length, 0) / 1024);
  const control = [
    text("control", controlFile(debianVersion, architecture, installedKiB)),
    text("conffiles", `/${ENVIRONMENT_FILE}\n`),
    text(
      "md5sums",
      files
        .filter(({ path }) => path !== ENVIRONMENT_FILE)
        .map(({ path, content }) => `${md5(content)}  ${path}\n`)
        .join(""),
    ),
    ...["postinst", "prerm", "postrm"].map((script) => take(`build/debian/${script}`, script, 0o755)),
  ];
  const members = [
    { name: "debian-binary", content: Buffer.from("2.0\n") },
    { name: "control.tar.zst", content: await zstd(control, epoch) },
    { name: "data.tar.zst", content: await zstd(files, epoch) },
  ];
  return { name: `${NAME}_${debianVersion}_${architecture}.deb`, content: Buffer.concat([...ar(members, epoch)]) };
}

// glibc 2.17 is the oldest with all the functions that the executables use.
const controlFile = (release: string, architecture: string, installedKiB: number) => `Package: ${NAME}
Version: ${release}
Architecture: ${architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${installedKiB}
Depends: libc6 (>= 2.17)
Suggests: nginx, libnginx-mod-stream, default-mysql-server | mariadb-server, redis-server
Section: net
Priority: optional
Description: self-hosted chat server
 Accounts, friends, one-to-one and group chat, and offline messages in one
 executable with an embedded database. With MySQL or MariaDB and Redis, several
 instances behind nginx are one chat service.
 .
 ChatServer@PORT.service runs an instance; ChatClient is the terminal client.
`;

const md5 = (content: Buffer): string => new CryptoHasher("md5").update(content).digest("hex");

function zstd(entries: Entry[], epoch: number): Promise<Buffer> {
  const params = {
    [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL,
    [constants.ZSTD_c_windowLog]: ZSTD_WINDOW_LOG,
    [constants.ZSTD_c_enableLongDistanceMatching]: 1,
  };
  return buffer(Readable.from(tar(entries, epoch)).pipe(createZstdCompress({ params })));
}

if (import.meta.main) {
  const folder = resolve(process.argv[2] ?? join(root, "build/dist"));
  mkdirSync(folder, { recursive: true });
  const epoch = await readEpoch();
  for (const { name, content } of await Promise.all([tarball(epoch), debianPackage(epoch)])) {
    writeFileSync(join(folder, name), content);
    console.log(`${join(folder, name)} (${Math.round(content.length / 1e6)} MB)`);
  }
}
