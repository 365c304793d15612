// The two archive formats of packages: tar (POSIX ustar) and ar (which a .deb is). The same files give the same bytes:
// order as given, owner root, one date for all.

export interface Entry {
  /** Without a leading slash, at most 100 bytes. */
  path: string;
  mode: number;
  content: Buffer;
}

const BLOCK = 512;
const NAME_BYTES = 100;

/** The bytes of a tar archive; its entries' folders come first, parents before children. `epoch`: seconds. */
export function* tar(entries: Entry[], epoch: number): Generator<Buffer> {
  const folders = new Set(
    entries.flatMap(({ path }) => path.split("/").map((_, i, parts) => parts.slice(0, i).join("/"))),
  );
  folders.delete("");
  for (const folder of [...folders].sort()) yield header(`${folder}/`, "5", 0o755, 0, epoch);
  for (const { path, mode, content } of entries) {
    yield header(path, "0", mode, content.length, epoch);
    yield content;
    yield Buffer.alloc(-content.length & (BLOCK - 1));
  }
  yield Buffer.alloc(2 * BLOCK);
}

function header(path: string, type: string, mode: number, size: number, epoch: number): Buffer {
  if (Buffer.byteLength(path) > NAME_BYTES) throw new Error(`${path}: too long a path for a tar header`);
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, digits: number) => block.write(value.toString(8).padStart(digits, "0"), at);
  block.write(path, 0);
  octal(mode, 100, 7);
  octal(0, 108, 7); // uid
  octal(0, 116, 7); // gid
  octal(size, 124, 11);
  octal(epoch, 136, 11);
  block.fill(" ", 148, 156); // the checksum counts as blanks in its own sum
  block.write(type, 156);
  block.write("ustar\0" + "00", 257);
  block.write("root", 265);
  block.write("root", 297);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  );
  block[154] = 0;
  return block;
}

/** The bytes of an ar archive; names have at most 16 bytes. */
export function* ar(members: { name: string; content: Buffer }[], epoch: number): Generator<Buffer> {
  yield Buffer.from("!<arch>\n");
  for (const { name, content } of members) {
    const { length } = content;
    const fields: [string | number, number][] = [
      [name, 16],
      [epoch, 12],
      [0, 6],
      [0, 6],
      [100644, 8],
      [length, 10],
    ];
    yield Buffer.from(`${fields.map(([field, width]) => String(field).padEnd(width)).join("")}\`\n`);
    yield content;
    if (length % 2 === 1) yield Buffer.from("\n");
  }
}
