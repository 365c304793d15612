// Plots of what was measured, as SVG, by gnuplot.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { median, type Result, valuesOf } from "./report.ts";

type Line = [x: number, ...values: number[]];

const STYLE = `set terminal svg size 720,400 font "sans-serif,13" background rgb "white"
set grid lc rgb "#dddddd"
set border 3 lc rgb "#888888"
set tics nomirror
set style data linespoints
set key top left
`;
const COLOURS = ["#1f77b4", "#ff7f0e", "#d62728"];

/** Throws where there is none. */
export function needGnuplot(): void {
  if (Bun.which("gnuplot") === null) throw new Error("--plot needs gnuplot: apt-get install gnuplot-nox");
}

/** Writes into `folder` the plots for which enough was measured. */
export function plot(results: Result[], folder: string): void {
  mkdirSync(folder, { recursive: true });
  const loads = linesOf(results, "open-loop", /^([\d,]+)\/s$/, ["p50", "p99", "p999"]);
  if (loads.length > 1)
    draw(
      join(folder, "latency-over-load.svg"),
      loads,
      ["p50", "p99", "p99.9"],
      "messages a second (open loop)",
      "latency, ms",
      "set logscale y\nset xrange [0:*]",
    );
  const stored = linesOf(results, "one-to-one", /^window (\d+)$/, ["rate"]);
  const relayed = new Map(
    linesOf(results, "one-to-one", /^window (\d+), bare relay$/, ["rate"]).map(([x, rate]) => [x, rate!]),
  );
  const windows = stored.map(([x, rate]): Line => [x, rate! / 1000, (relayed.get(x) ?? Number.NaN) / 1000]);
  if (windows.length > 1)
    draw(
      join(folder, "throughput-over-window.svg"),
      windows,
      ["ChatServer, each message synced to disk", "a bare relay on the same runtime"],
      "unacknowledged messages of each of the senders",
      "thousand messages a second",
      `set logscale x 2\nset yrange [0:*]\nset xrange [${windows[0]![0] / 1.2}:${windows.at(-1)![0] * 1.2}]`,
    );
}

/** By the number in the case's name: medians of metrics. */
function linesOf(results: Result[], scenario: string, pattern: RegExp, metrics: string[]): Line[] {
  const lines = results.flatMap(({ scenario: of, name, samples }): Line[] => {
    const match = of === scenario && samples.length > 0 ? pattern.exec(name) : null;
    if (match === null) return [];
    return [[Number(match[1]!.replaceAll(",", "")), ...metrics.map((metric) => median(valuesOf(samples, metric)))]];
  });
  return lines.sort((a, b) => a[0] - b[0]);
}

function draw(file: string, lines: Line[], titles: string[], x: string, y: string, axes: string): void {
  const curves = titles.map(
    (title, i) => `$lines using 1:${i + 2} title "${title}" lw 2 pt 7 ps 0.6 lc rgb "${COLOURS[i]}"`,
  );
  const ticks = lines.map(([at]) => `"${at < 1_000 ? at : `${at / 1_000}k`}" ${at}`).join(", ");
  const script = `${STYLE}${axes}
set output "${file}"
set xlabel "${x}"
set ylabel "${y}"
set xtics (${ticks})
$lines << END
${lines.map((line) => line.join(" ")).join("\n")}
END
plot ${curves.join(", ")}
`;
  const { exitCode, stderr } = Bun.spawnSync(["gnuplot", "-"], { stdin: Buffer.from(script) });
  if (exitCode !== 0) throw new Error(`gnuplot failed:\n${stderr}`);
  console.log(`plotted: ${file}`);
}
