// The certificate and key of TLS, read from files and read again when they change, so that a renewal needs no restart.
import { readFileSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { StartError } from "../start-error.ts";

export interface TlsFiles {
  certificate: string;
  key: string;
}

/** What `Bun.listen` takes. */
export interface TlsKeys {
  cert: string;
  key: string;
}

/** The files' contents. Throws StartError with what to do where they cannot be read or do not belong together. */
export function readTls({ certificate, key }: TlsFiles): TlsKeys {
  const keys = { cert: read("--tls-cert", certificate), key: read("--tls-key", key) };
  try {
    createSecureContext(keys);
  } catch (error) {
    throw new StartError(
      `--tls-cert ${certificate} and --tls-key ${key} are not a PEM certificate and its key: ${(error as Error).message}`,
    );
  }
  return keys;
}

/** When the files last changed, milliseconds since 1970; 0 while one is missing. */
export function tlsChangedAt({ certificate, key }: TlsFiles): number {
  const times = [certificate, key].map((file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0);
  return times.includes(0) ? 0 : Math.max(...times);
}

function read(flag: string, file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new StartError(`${flag} ${file} cannot be read (${(error as Error).message})`);
  }
}
