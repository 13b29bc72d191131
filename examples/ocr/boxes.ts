// Turns the detection network's map into boxes around lines of text (Liao et al. 2020, "Real-time Scene Text Detection with DB").
import { outlines } from "./components.ts";
import { cornersOf, grow, minAreaRect, type Point, type Quad, type Rect } from "./min_area_rect.ts";

export interface BoxOptions {
  /** A pixel above this is text. */
  readonly threshold?: number;
  /** A box whose pixels are less text than this on average is dropped. */
  readonly minScore?: number;
  /** The network marks shrunken lines; each side moves out by area · ratio / perimeter. */
  readonly unclipRatio?: number;
  /** Shortest side of a marked region, in pixels of the map. */
  readonly minSide?: number;
  readonly maxBoxes?: number;
}

export const BOX_DEFAULTS = { threshold: 0.3, minScore: 0.6, unclipRatio: 1.75, minSide: 3, maxBoxes: 1000 } as const;

export interface Box {
  readonly corners: Quad;
  /** Mean probability of text inside, before growing. */
  readonly score: number;
}

/** map (height,width) of probabilities → boxes in pixels of the map. */
export function findBoxes(map: Float32Array, width: number, height: number, options: BoxOptions = {}): Box[] {
  const { threshold, minScore, unclipRatio, minSide, maxBoxes } = { ...BOX_DEFAULTS, ...options };
  const boxes: Box[] = [];
  for (const outline of outlines(map, width, height, threshold)) {
    if (boxes.length === maxBoxes) break;
    const rect = minAreaRect(outline);
    if (shortSide(rect) < minSide) continue;
    const score = meanInside(map, width, height, rect);
    if (score < minScore) continue;
    const grown = grow(rect, unclipDistance(rect, unclipRatio));
    if (shortSide(grown) < minSide + 2) continue;
    boxes.push({ corners: cornersOf(grown), score });
  }
  return boxes;
}

const shortSide = ({ half }: Rect): number => 2 * Math.min(half[0], half[1]);

function unclipDistance({ half: [a, b] }: Rect, ratio: number): number {
  return (4 * a * b * ratio) / (4 * (a + b));
}

/** Mean of the map over the pixels whose centres lie in the rectangle, its border included. */
export function meanInside(map: Float32Array, width: number, height: number, rect: Rect): number {
  const { center, half, along } = rect;
  const reachX = half[0] * Math.abs(along.x) + half[1] * Math.abs(along.y);
  const reachY = half[0] * Math.abs(along.y) + half[1] * Math.abs(along.x);
  const slack = 1e-6;
  let sum = 0;
  let count = 0;
  for (let y = Math.max(0, Math.floor(center.y - reachY)); y <= Math.min(height - 1, Math.ceil(center.y + reachY)); y++) {
    for (let x = Math.max(0, Math.floor(center.x - reachX)); x <= Math.min(width - 1, Math.ceil(center.x + reachX)); x++) {
      const [dx, dy] = [x - center.x, y - center.y];
      if (Math.abs(dx * along.x + dy * along.y) > half[0] + slack || Math.abs(dy * along.x - dx * along.y) > half[1] + slack) continue;
      sum += map[y * width + x];
      count++;
    }
  }
  return count ? sum / count : 0;
}

/** Corners times (sx, sy), kept inside a picture of width × height pixels. */
export function scaleCorners(corners: Quad, sx: number, sy: number, width: number, height: number): Quad {
  const scaled = (p: Point): Point => ({ x: clamp(p.x * sx, width - 1), y: clamp(p.y * sy, height - 1) });
  const [a, b, c, d] = corners;
  return [scaled(a), scaled(b), scaled(c), scaled(d)];
}

const clamp = (value: number, top: number): number => Math.min(Math.max(value, 0), top);
