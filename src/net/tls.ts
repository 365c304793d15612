// The TLS certificate and key, read from files and read again when they change, so that a renewal needs no restart.
import { readFileSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { StartError } from "../start-error.ts";

export interface TlsFiles {
  certificate: string;
  key: string;
}

/** As `Bun.listen` takes them, in PEM. */
export interface TlsKeys {
  cert: string;
  key: string;
}

/** The files' contents. Throws StartError, saying what to do, where they cannot be read or do not belong together. */
export function readTls({ certificate, key }: TlsFiles): TlsKeys {
  const keys = { cert: read("--tls-cert", certificate), key: read("--tls-key", key) };
  if (keys.cert.trim() === "") throw new StartError(`--tls-cert ${certificate} is empty`);
  if (keys.key.trim() === "") throw new StartError(`--tls-key ${key} is empty`);
  try {
    createSecureContext(keys);
  } catch (error) {
    throw new StartError(
      `--tls-cert ${certificate} and --tls-key ${key} are not a PEM certificate and its key: ${(error as Error).message}`,
    );
  }
  return keys;
}

/** Differs when either file has changed (newer or older), is missing or cannot be inspected. */
export const tlsVersion = ({ certificate, key }: TlsFiles): string => [certificate, key].map(versionOf).join(", ");

function versionOf(file: string): string {
  try {
    const { mtimeMs, size, ino } = statSync(file);
    return `${mtimeMs} ${size} ${ino}`;
  } catch (error) {
    return (error as Error).message;
  }
}

function read(flag: string, file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new StartError(`${flag} ${file} cannot be read (${(error as Error).message})`);
  }
}
