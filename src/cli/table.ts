// Rows of cells → aligned columns.

export interface TableOptions {
  /** Columns that are words, not numbers: aligned left. Default: the first. */
  readonly left?: readonly number[];
}

/** Lines of equal columns, two spaces apart; the header is underlined. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[], { left = [0] }: TableOptions = {}): string {
  const widths = header.map((name, i) => rows.reduce((width, row) => Math.max(width, displayWidth(row[i])), displayWidth(name)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => pad(cell, widths[i], left.includes(i)))
      .join("  ")
      .trimEnd();
  return [
    line(header),
    widths
      .map((width) => "─".repeat(width))
      .join("  ")
      .trimEnd(),
    ...rows.map(line),
  ].join("\n");
}

const displayWidth = (text: string): number => [...text].length;

function pad(text: string, width: number, isLeft: boolean): string {
  const space = " ".repeat(width - displayWidth(text));
  return isLeft ? text + space : space + text;
}

/** Names and values, one a line. */
export function formatPairs(pairs: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...pairs.map(([name]) => displayWidth(name)));
  return pairs.map(([name, value]) => `${pad(name, width, true)}  ${value}`.trimEnd()).join("\n");
}

/** The longest names of networks fill lines: the end tells more than the beginning. */
export function clip(text: string, width: number): string {
  const letters = [...text];
  return letters.length <= width ? text : `…${letters.slice(letters.length - width + 1).join("")}`;
}
