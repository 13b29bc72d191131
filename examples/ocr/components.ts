// Turns a map of probabilities into its connected regions of text, each by the points that outline it.
import type { Point } from "./min_area_rect.ts";

const NEIGHBOURS = [
  [-1, -1],
  [0, -1],
  [1, -1],
  [-1, 0],
  [1, 0],
  [-1, 1],
  [0, 1],
  [1, 1],
];

/** For each 8-connected region above `threshold`, the leftmost and rightmost pixel of each row: enough for its convex hull. */
export function outlines(map: Float32Array, width: number, height: number, threshold: number): Point[][] {
  const isSeen = new Uint8Array(width * height);
  const regions: Point[][] = [];
  for (let start = 0; start < map.length; start++) {
    if (isSeen[start] || map[start] <= threshold) continue;
    const spans = new Map<number, [left: number, right: number]>();
    const open = [start];
    isSeen[start] = 1;
    while (open.length > 0) {
      const at = open.pop()!;
      const [x, y] = [at % width, Math.floor(at / width)];
      const span = spans.get(y);
      if (!span) spans.set(y, [x, x]);
      else if (x < span[0]) span[0] = x;
      else if (x > span[1]) span[1] = x;
      for (const [dx, dy] of NEIGHBOURS) {
        const [u, v] = [x + dx, y + dy];
        if (u < 0 || v < 0 || u >= width || v >= height) continue;
        const next = v * width + u;
        if (isSeen[next] || map[next] <= threshold) continue;
        isSeen[next] = 1;
        open.push(next);
      }
    }
    regions.push(
      [...spans].flatMap(([y, [left, right]]) =>
        left === right
          ? [{ x: left, y }]
          : [
              { x: left, y },
              { x: right, y },
            ],
      ),
    );
  }
  return regions;
}
