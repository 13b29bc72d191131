// Turns a set of points into the rectangle of least area around them, by rotating calipers over their convex hull.

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** Four corners in order around the shape; for text: top left, top right, bottom right, bottom left. */
export type Quad = readonly [Point, Point, Point, Point];

const cross = (o: Point, a: Point, b: Point): number => (a.x - o.x) * (b.y - o.y) - (a.y - o.y) * (b.x - o.x);

/** The hull's corners in one turning direction, collinear points left out (Andrew's monotone chain). */
export function convexHull(points: readonly Point[]): Point[] {
  const sorted = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  const distinct = sorted.filter((p, i) => i === 0 || p.x !== sorted[i - 1].x || p.y !== sorted[i - 1].y);
  if (distinct.length < 3) return distinct;
  const chain = (run: readonly Point[]): Point[] => {
    const out: Point[] = [];
    for (const p of run) {
      while (out.length >= 2 && cross(out[out.length - 2], out[out.length - 1], p) <= 0) out.pop();
      out.push(p);
    }
    return out.slice(0, -1); // the other chain begins with it
  };
  return [...chain(distinct), ...chain(distinct.reverse())];
}

/** A rectangle by its centre, half sides and the unit direction of its first side. */
export interface Rect {
  readonly center: Point;
  readonly half: readonly [number, number];
  readonly along: Point;
}

/** The least-area rectangle that holds all points; one of its sides lies on a side of the hull (Freeman and Shapira, 1975). */
export function minAreaRect(points: readonly Point[]): Rect {
  const hull = convexHull(points);
  if (hull.length === 1) return { center: hull[0], half: [0, 0], along: { x: 1, y: 0 } };
  const n = hull.length;
  const dot = (i: number, d: Point): number => hull[i % n].x * d.x + hull[i % n].y * d.y;
  let best: Rect | undefined;
  let bestArea = Number.POSITIVE_INFINITY;
  // Indices of the hull's extremes along the edge, across it, and backwards: they only move forward as the edge turns.
  let [far, high, near] = [1, 1, 1];
  for (let i = 0; i < n; i++) {
    const [a, b] = [hull[i], hull[(i + 1) % n]];
    const length = Math.hypot(b.x - a.x, b.y - a.y);
    const along = { x: (b.x - a.x) / length, y: (b.y - a.y) / length };
    const across = { x: -along.y, y: along.x };
    const back = { x: -along.x, y: -along.y };
    const climb = (from: number, d: Point): number => {
      let at = from;
      while (at < from + n && dot(at + 1, d) >= dot(at, d)) at++;
      return at;
    };
    far = climb(Math.max(far, i + 1), along);
    high = climb(Math.max(high, far), across);
    near = climb(Math.max(near, high), back);
    const [left, right] = [dot(near, along), dot(far, along)];
    const [low, top] = [dot(i, across), dot(high, across)];
    const area = (right - left) * (top - low);
    if (area >= bestArea) continue;
    bestArea = area;
    const [u, v] = [(left + right) / 2, (low + top) / 2];
    best = { center: { x: u * along.x + v * across.x, y: u * along.y + v * across.y }, half: [(right - left) / 2, (top - low) / 2], along };
  }
  return best!; // n ≥ 2, so some edge was tried and its area is finite
}

/** The same rectangle with `margin` more on every side. */
export const grow = (r: Rect, margin: number): Rect => ({ ...r, half: [r.half[0] + margin, r.half[1] + margin] });

/** Corners as a reader sees them: top left first, then clockwise. The two leftmost corners are the left side. */
export function cornersOf({ center, half, along }: Rect): Quad {
  const corner = (s: number, t: number): Point => ({
    x: center.x + s * half[0] * along.x - t * half[1] * along.y,
    y: center.y + s * half[0] * along.y + t * half[1] * along.x,
  });
  const corners = [corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)].sort((a, b) => a.x - b.x);
  const [topLeft, bottomLeft] = corners.slice(0, 2).sort((a, b) => a.y - b.y);
  const [topRight, bottomRight] = corners.slice(2).sort((a, b) => a.y - b.y);
  return [topLeft, topRight, bottomRight, bottomLeft];
}
