// Turns read lines and measured times into tables for people and JSON for programs.
import type { Comparison } from "./compare.ts";
import type { Line } from "./read_text.ts";

export function linesTable(lines: readonly Line[]): string {
  const rows = lines.map(({ text, confidence, corners, turned }, i) => [
    String(i + 1),
    `${(confidence * 100).toFixed(1)} %`,
    `${turned}°`,
    corners.map(({ x, y }) => `${x.toFixed(0)},${y.toFixed(0)}`).join(" "),
    text,
  ]);
  return table(["#", "sure", "turned", "corners", "text"], rows, "rrrll");
}

export function comparisonTable(comparisons: readonly Comparison[]): string {
  const rows = comparisons.map(({ name, shape, heddleMs, onnxruntimeMs, maxRelativeError }) => [
    name,
    shape.join("×"),
    heddleMs.toFixed(2),
    onnxruntimeMs.toFixed(2),
    `${(onnxruntimeMs / heddleMs).toFixed(2)}×`,
    maxRelativeError.toExponential(1),
  ]);
  return table(["network", "input", "heddle ms", "onnxruntime ms", "speed", "max error"], rows, "llrrrr");
}

export const linesJson = (lines: readonly Line[]) =>
  lines.map(({ text, confidence, corners, turned }) => ({ text, confidence, turned, corners: corners.map(({ x, y }) => [x, y]) }));

/** Columns as wide as their longest cell; `align` has l or r for each. */
function table(head: readonly string[], rows: readonly (readonly string[])[], align: string): string {
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i].length)));
  const print = (row: readonly string[]): string =>
    row
      .map((cell, i) => (align[i] === "r" ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join("  ")
      .trimEnd();
  return [head, ...rows].map(print).join("\n");
}
