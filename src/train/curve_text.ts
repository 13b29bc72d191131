// A curve → lines of braille characters for a terminal, two points across and four down in each.

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface CurveSize {
  /** Characters, axis included. */
  readonly columns: number;
  readonly rows: number;
}

/** Bits of a braille character's dots, by row and column. */
const DOTS = [
  [0x01, 0x08],
  [0x02, 0x10],
  [0x04, 0x20],
  [0x40, 0x80],
] as const;
const BLANK = 0x2800;
const LABEL = 9;

/** Losses that differ by more than this are drawn by their logarithms. */
const WIDE = 10;

/** Whether a logarithmic axis shows these better. */
export const isWide = (points: readonly Point[]): boolean => {
  const ys = points.map((p) => p.y);
  return Math.min(...ys) > 0 && Math.max(...ys) > WIDE * Math.min(...ys);
};

/** `title` over the drawing, the range of y beside it, that of x below. Empty where there are no points. */
export function drawCurve(title: string, points: readonly Point[], { columns, rows }: CurveSize = { columns: 72, rows: 12 }): string {
  if (points.length === 0) return "";
  const scale = isWide(points) ? Math.log : (y: number) => y;
  const width = 2 * (columns - LABEL);
  const height = 4 * rows;
  const [left, right] = [points[0].x, points[points.length - 1].x];
  const ys = points.map((p) => scale(p.y));
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const column = (x: number): number => (right === left ? 0 : Math.round(((x - left) / (right - left)) * (width - 1)));
  const row = (y: number): number => (high === low ? height - 1 : Math.round(((high - scale(y)) / (high - low)) * (height - 1)));
  const cells = Array.from({ length: rows }, () => new Uint8Array(columns - LABEL));
  const dot = (x: number, y: number): void => {
    cells[y >> 2][x >> 1] |= DOTS[y & 3][x & 1];
  };
  for (const [i, p] of points.entries()) line(points[Math.max(0, i - 1)], p, column, row, dot);
  const label = (text: string): string => text.padStart(LABEL - 2);
  const lines = cells.map((bits, i) => {
    const y = i === 0 ? Math.max(...points.map((p) => p.y)) : i === rows - 1 ? Math.min(...points.map((p) => p.y)) : null;
    return `${label(y === null ? "" : `${Number(y.toPrecision(3))}`)} ┤${String.fromCharCode(...Array.from(bits, (b) => BLANK + b))}`;
  });
  const [from, to] = [`${left}`, `${right}`];
  return [title, ...lines, `${" ".repeat(LABEL)}${from}${to.padStart(columns - LABEL - from.length)}`].join("\n");
}

/** Dots from one point to the next. */
function line(a: Point, b: Point, column: (x: number) => number, row: (y: number) => number, dot: (x: number, y: number) => void): void {
  const [x0, y0, x1, y1] = [column(a.x), row(a.y), column(b.x), row(b.y)];
  const count = Math.max(1, Math.abs(x1 - x0), Math.abs(y1 - y0));
  for (let i = 0; i <= count; i++) dot(Math.round(x0 + ((x1 - x0) * i) / count), Math.round(y0 + ((y1 - y0) * i) / count));
}
