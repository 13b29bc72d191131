// Puts boxes in the order in which a page is read: rows from the top, in a row from the left, also when the page lies askew.
import type { Box } from "./boxes.ts";
import type { Point, Quad } from "./min_area_rect.ts";

/** Boxes belong to one row when their middles differ by less than this part of the lower box's height. */
const SAME_ROW = 0.5;
/** Boxes at least this many times as wide as high tell how the page lies. */
const CLEARLY_WIDE = 2;

interface Placed {
  readonly box: Box;
  readonly u: number; // along the page's lines
  readonly v: number; // down the page
  readonly height: number;
}

export function inReadingOrder(boxes: readonly Box[]): Box[] {
  const tilt = pageTilt(boxes);
  const [cos, sin] = [Math.cos(tilt), Math.sin(tilt)];
  const placed = boxes.map((box): Placed => {
    const c = centerOf(box.corners);
    return { box, u: c.x * cos + c.y * sin, v: c.y * cos - c.x * sin, height: sidesOf(box.corners).height };
  });
  placed.sort((a, b) => a.v - b.v);
  const rows: Placed[][] = [];
  for (const one of placed) {
    const row = rows.at(-1);
    const isSameRow = row?.every((other) => Math.abs(one.v - other.v) < SAME_ROW * Math.min(one.height, other.height));
    if (row && isSameRow) row.push(one);
    else rows.push([one]);
  }
  return rows.flatMap((row) => row.sort((a, b) => a.u - b.u).map((one) => one.box));
}

/** The middle angle of the clearly wide boxes, each counted by its width; radians, clockwise on the screen. */
export function pageTilt(boxes: readonly Box[]): number {
  const angles = boxes.flatMap(({ corners }) => {
    const { width, height } = sidesOf(corners);
    const [a, b] = [corners[0], corners[1]];
    return width >= CLEARLY_WIDE * height ? [{ angle: Math.atan2(b.y - a.y, b.x - a.x), weight: width }] : [];
  });
  angles.sort((a, b) => a.angle - b.angle);
  const total = angles.reduce((sum, { weight }) => sum + weight, 0);
  let passed = 0;
  for (const { angle, weight } of angles) {
    passed += weight;
    if (passed >= total / 2) return angle;
  }
  return 0;
}

/** Longer top or bottom, longer left or right side. */
export function sidesOf([a, b, c, d]: Quad): { width: number; height: number } {
  return { width: Math.max(distance(a, b), distance(d, c)), height: Math.max(distance(a, d), distance(b, c)) };
}

const distance = (p: Point, q: Point): number => Math.hypot(p.x - q.x, p.y - q.y);
const centerOf = (q: Quad): Point => ({ x: (q[0].x + q[1].x + q[2].x + q[3].x) / 4, y: (q[0].y + q[1].y + q[2].y + q[3].y) / 4 });
