// How both programs print when they are only asked for something, such as their version.

/** Prints the last output of `program`; if it cannot be written: one line on standard error, exit code 1. */
export function printAnswer(program: string, text: string): void {
  process.stdout.once("error", ({ code }: Error & { code?: string }) => {
    // The reader has stopped reading: no error.
    if (code === "EPIPE") return;
    process.stderr.write(`${program}: cannot write to standard output (${code})\n`);
    process.exitCode = 1;
  });
  process.stdout.write(text);
}
