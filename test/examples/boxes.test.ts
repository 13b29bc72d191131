// Boxes found on maps drawn by hand: place, turn, growth, and what is dropped.
import { describe, expect, test } from "vitest";
import { findBoxes, meanInside, scaleCorners } from "../../examples/ocr/boxes.ts";
import { outlines } from "../../examples/ocr/components.ts";
import { minAreaRect, type Point, type Quad } from "../../examples/ocr/min_area_rect.ts";

const [WIDTH, HEIGHT] = [96, 64];

/** A map whose pixels are `value` where `isInside`. */
function draw(
  isInside: (x: number, y: number) => boolean,
  value = 0.9,
  onto: Float32Array = new Float32Array(WIDTH * HEIGHT),
): Float32Array {
  for (let i = 0; i < onto.length; i++) if (isInside(i % WIDTH, Math.floor(i / WIDTH))) onto[i] = value;
  return onto;
}
const bar = (left: number, top: number, right: number, bottom: number) => (x: number, y: number) =>
  x >= left && x <= right && y >= top && y <= bottom;
const numbers = (corners: Quad): number[][] => corners.map(({ x, y }) => [x, y]);

describe("findBoxes", () => {
  test("grows an upright bar by area · ratio / perimeter", () => {
    const [box, ...rest] = findBoxes(draw(bar(20, 10, 60, 20)), WIDTH, HEIGHT, { unclipRatio: 1.5 });
    const margin = (40 * 10 * 1.5) / (2 * (40 + 10));
    expect(rest).toEqual([]);
    expect(box.score).toBeCloseTo(0.9);
    const wanted = [
      [20 - margin, 10 - margin],
      [60 + margin, 10 - margin],
      [60 + margin, 20 + margin],
      [20 - margin, 20 + margin],
    ];
    for (const [i, p] of numbers(box.corners).entries()) for (const c of [0, 1]) expect(p[c]).toBeCloseTo(wanted[i][c]);
  });

  test("follows a turned bar", () => {
    const angle = 0.4;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const isInside = (x: number, y: number) => Math.abs((x - 48) * c + (y - 32) * s) <= 24 && Math.abs((y - 32) * c - (x - 48) * s) <= 5;
    const [box] = findBoxes(draw(isInside), WIDTH, HEIGHT);
    const [a, b] = box.corners;
    expect(Math.atan2(b.y - a.y, b.x - a.x)).toBeCloseTo(angle, 1);
    expect(box.score).toBeGreaterThan(0.8);
  });

  test("separates regions, joins those that touch at a corner", () => {
    expect(findBoxes(draw(bar(50, 40, 80, 50), 0.9, draw(bar(5, 5, 30, 15))), WIDTH, HEIGHT)).toHaveLength(2);
    expect(outlines(draw(bar(15, 15, 20, 20), 0.9, draw(bar(5, 5, 14, 14))), WIDTH, HEIGHT, 0.3)).toHaveLength(1);
  });

  test("drops what is faint, tiny or unlikely", () => {
    const faint = draw(bar(5, 5, 30, 15), 0.29);
    const unlikely = draw(bar(5, 5, 30, 15), 0.45);
    const tiny = draw(bar(5, 5, 30, 7));
    for (const map of [faint, unlikely, tiny, new Float32Array(WIDTH * HEIGHT)]) expect(findBoxes(map, WIDTH, HEIGHT)).toEqual([]);
    expect(findBoxes(unlikely, WIDTH, HEIGHT, { minScore: 0.4 })).toHaveLength(1);
  });

  test("stops at the most boxes wanted", () => {
    const dots = draw((x, y) => x % 12 < 8 && y % 12 < 8);
    expect(findBoxes(dots, WIDTH, HEIGHT, { maxBoxes: 5 })).toHaveLength(5);
    expect(findBoxes(dots, WIDTH, HEIGHT).length).toBeGreaterThan(40);
  });

  test("takes a map full of text", () => {
    expect(
      findBoxes(
        draw(() => true),
        WIDTH,
        HEIGHT,
      ),
    ).toHaveLength(1);
  });
});

test("the outline of a region has its hull", () => {
  const ring = draw((x, y) => bar(10, 10, 40, 30)(x, y) && !bar(12, 12, 38, 28)(x, y));
  const [outline] = outlines(ring, WIDTH, HEIGHT, 0.3);
  const { half } = minAreaRect(outline);
  expect([...half].sort((a, b) => a - b)).toEqual([10, 15]);
});

test("the mean inside counts the border and nothing beyond", () => {
  const map = draw(bar(10, 10, 20, 20), 0.5);
  expect(meanInside(map, WIDTH, HEIGHT, minAreaRect(square(10, 20)))).toBeCloseTo(0.5);
  expect(meanInside(map, WIDTH, HEIGHT, minAreaRect(square(10, 31)))).toBeCloseTo((0.5 * 11 * 11) / (22 * 22));
});

const square = (from: number, to: number): Point[] => [from, to].flatMap((x) => [from, to].map((y) => ({ x, y })));

test("scaled corners stay in the picture", () => {
  const corners: Quad = [
    { x: -4, y: 1 },
    { x: 9, y: 1 },
    { x: 9, y: 40 },
    { x: -4, y: 40 },
  ];
  expect(numbers(scaleCorners(corners, 2, 3, 100, 60))).toEqual([
    [0, 3],
    [18, 3],
    [18, 59],
    [0, 59],
  ]);
});
