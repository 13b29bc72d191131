// Rotating calipers against trying every direction, and the order of corners.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { convexHull, cornersOf, grow, minAreaRect, type Point, type Rect } from "../../examples/ocr/min_area_rect.ts";

const point = fc.record({ x: fc.integer({ min: 0, max: 60 }), y: fc.integer({ min: 0, max: 60 }) });
const areaOf = ({ half }: Rect): number => 4 * half[0] * half[1];

/** Least area over the directions of all pairs of points: the best rectangle has a side along one of them. */
function bruteArea(points: readonly Point[]): number {
  let best = Number.POSITIVE_INFINITY;
  for (const a of points) {
    for (const b of points) {
      const length = Math.hypot(b.x - a.x, b.y - a.y);
      if (length === 0) continue;
      const [c, s] = [(b.x - a.x) / length, (b.y - a.y) / length];
      const u = points.map((p) => p.x * c + p.y * s);
      const v = points.map((p) => p.y * c - p.x * s);
      best = Math.min(best, (Math.max(...u) - Math.min(...u)) * (Math.max(...v) - Math.min(...v)));
    }
  }
  return best;
}

const holds = ({ center, half, along }: Rect, p: Point): boolean => {
  const [dx, dy] = [p.x - center.x, p.y - center.y];
  return Math.abs(dx * along.x + dy * along.y) <= half[0] + 1e-9 && Math.abs(dy * along.x - dx * along.y) <= half[1] + 1e-9;
};

describe("minAreaRect", () => {
  test("is as small as the best of all directions and holds every point", () => {
    fc.assert(
      fc.property(fc.array(point, { minLength: 2, maxLength: 24 }), (points) => {
        fc.pre(points.some((p) => p.x !== points[0].x || p.y !== points[0].y));
        const rect = minAreaRect(points);
        expect(points.every((p) => holds(rect, p))).toBe(true);
        expect(areaOf(rect)).toBeCloseTo(bruteArea(points), 6);
      }),
    );
  });

  test("of one point and of points in a line has no area", () => {
    expect(minAreaRect([{ x: 3, y: 4 }])).toMatchObject({ center: { x: 3, y: 4 }, half: [0, 0] });
    const line = minAreaRect([0, 1, 2, 3].map((i) => ({ x: i * 3, y: i * 4 })));
    expect(Math.max(...line.half)).toBeCloseTo(7.5);
    expect(Math.min(...line.half)).toBeCloseTo(0);
  });

  test("of a turned rectangle is that rectangle", () => {
    const [c, s] = [Math.cos(0.3), Math.sin(0.3)];
    const turned = ([x, y]: number[]): Point => ({ x: 50 + x * c - y * s, y: 40 + x * s + y * c });
    const corners = [
      [-20, -5],
      [20, -5],
      [20, 5],
      [-20, 5],
    ].map(turned);
    const found = cornersOf(minAreaRect(corners));
    for (const [i, p] of found.entries()) {
      expect(p.x).toBeCloseTo(corners[i].x);
      expect(p.y).toBeCloseTo(corners[i].y);
    }
  });
});

test("the hull leaves out inner, repeated and collinear points", () => {
  const hull = convexHull([0, 1, 2, 0, 2, 0, 1, 2, 1, 1].map((x, i) => ({ x, y: [0, 0, 0, 1, 1, 2, 2, 2, 1, 1][i] })));
  expect(hull).toHaveLength(4);
  expect(hull.every(({ x, y }) => x !== 1 && y !== 1)).toBe(true);
});

test("growing moves every side out", () => {
  const corners = cornersOf(grow(minAreaRect([0, 10, 10, 0].map((x, i) => ({ x, y: i < 2 ? 0 : 4 }))), 2));
  expect(corners.map(({ x, y }) => [Math.round(x), Math.round(y)])).toEqual([
    [-2, -2],
    [12, -2],
    [12, 6],
    [-2, 6],
  ]);
});
