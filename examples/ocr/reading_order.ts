// Puts lines in the order in which a page is read: rows from the top, in a row from the left, also when the page lies askew or on its head.
import type { Point, Quad } from "./min_area_rect.ts";

/** Lines belong to one row when their middles differ by less than this part of the lower one's height. */
const SAME_ROW = 0.5;
/** Lines at least this many times as wide as high tell how the page lies. */
const CLEARLY_WIDE = 2;
const QUARTER = Math.PI / 2;

export interface Turned {
  readonly corners: Quad;
  /** Quarter turns against the clock by which the box is read, in degrees. */
  readonly turned: 0 | 90 | 180 | 270;
}

interface Placed<T> {
  readonly line: T;
  readonly u: number; // along the page's lines
  readonly v: number; // down the page
  readonly height: number;
}

export function inReadingOrder<T extends Turned>(lines: readonly T[]): T[] {
  const tilt = pageTilt(lines);
  const [cos, sin] = [Math.cos(tilt), Math.sin(tilt)];
  const placed = lines.map((line): Placed<T> => {
    const c = centerOf(line.corners);
    const { width, height } = sidesOf(readingCorners(line));
    return { line, u: c.x * cos + c.y * sin, v: c.y * cos - c.x * sin, height: Math.min(width, height) };
  });
  placed.sort((a, b) => a.v - b.v);
  const rows: Placed<T>[][] = [];
  for (const one of placed) {
    const row = rows.at(-1);
    const isSameRow = row?.every((other) => Math.abs(one.v - other.v) < SAME_ROW * Math.min(one.height, other.height));
    if (row && isSameRow) row.push(one);
    else rows.push([one]);
  }
  return rows.flatMap((row) => row.sort((a, b) => a.u - b.u).map((one) => one.line));
}

/** The corners as the line's reader sees them: its own top left first. */
export function readingCorners({ corners, turned }: Turned): Quad {
  const at = (i: number): Point => corners[(i + turned / 90) % 4];
  return [at(0), at(1), at(2), at(3)];
}

/** Direction of most lines, each counted by its width: the middle one of the fullest quarter. Radians, clockwise on the screen. */
export function pageTilt(lines: readonly Turned[]): number {
  const quarters: { angle: number; weight: number }[][] = [[], [], [], []];
  for (const line of lines) {
    const corners = readingCorners(line);
    const { width, height } = sidesOf(corners);
    if (width < CLEARLY_WIDE * height) continue;
    const angle = Math.atan2(corners[1].y - corners[0].y, corners[1].x - corners[0].x);
    const quarter = Math.round(angle / QUARTER);
    quarters[(quarter + 4) % 4].push({ angle: angle - quarter * QUARTER, weight: width });
  }
  const totals = quarters.map((quarter) => quarter.reduce((sum, { weight }) => sum + weight, 0));
  const fullest = totals.indexOf(Math.max(...totals));
  let passed = 0;
  for (const { angle, weight } of quarters[fullest].sort((a, b) => a.angle - b.angle)) {
    passed += weight;
    if (passed >= totals[fullest] / 2) return fullest * QUARTER + angle;
  }
  return 0;
}

/** Longer top or bottom, longer left or right side. */
export function sidesOf([a, b, c, d]: Quad): { width: number; height: number } {
  return { width: Math.max(distance(a, b), distance(d, c)), height: Math.max(distance(a, d), distance(b, c)) };
}

const distance = (p: Point, q: Point): number => Math.hypot(p.x - q.x, p.y - q.y);
const centerOf = (q: Quad): Point => ({ x: (q[0].x + q[1].x + q[2].x + q[3].x) / 4, y: (q[0].y + q[1].y + q[2].y + q[3].y) / 4 });
