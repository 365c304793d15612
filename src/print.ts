// What both programs print where they are only asked for something, such as their version.

/** Prints `text`, with which `program` ends: exit code 1 and one line where it cannot be written. */
export function printAnswer(program: string, text: string): void {
  process.stdout.once("error", ({ code }: Error & { code?: string }) => {
    // Who has stopped reading has read enough.
    if (code === "EPIPE") return;
    process.stderr.write(`${program}: standard output cannot be written (${code})\n`);
    process.exitCode = 1;
  });
  process.stdout.write(text);
}
