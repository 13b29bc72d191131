// Boxes of pages that lie straight and askew come in the order they are read.
import { describe, expect, test } from "vitest";
import type { Box } from "../../examples/ocr/boxes.ts";
import type { Point, Quad } from "../../examples/ocr/min_area_rect.ts";
import { inReadingOrder, pageTilt } from "../../examples/ocr/reading_order.ts";

/** A page of two columns: left boxes begin at 0, right ones at 400, rows 40 apart; turned by `tilt` radians. */
function page(rows: number, tilt: number): Box[] {
  const turned = (x: number, y: number): Point => ({
    x: x * Math.cos(tilt) - y * Math.sin(tilt),
    y: x * Math.sin(tilt) + y * Math.cos(tilt),
  });
  return Array.from({ length: rows * 2 }, (_, i) => {
    const [left, top, width] = i % 2 ? [400, 40 * (i >> 1) + 3, 90] : [0, 40 * (i >> 1), 300];
    const corners: Quad = [turned(left, top), turned(left + width, top), turned(left + width, top + 24), turned(left, top + 24)];
    return { corners, score: 1 };
  });
}

describe("inReadingOrder", () => {
  test.each([0, 0.08, -0.08, 0.3])("reads rows from the left on a page turned by %f", (tilt) => {
    const boxes = page(5, tilt);
    const shuffled = boxes.map((_, i) => boxes[(i * 7) % boxes.length]);
    expect(inReadingOrder(shuffled).map((box) => boxes.indexOf(box))).toEqual(boxes.map((_, i) => i));
    expect(pageTilt(boxes)).toBeCloseTo(tilt);
  });

  test("takes no boxes", () => {
    expect(inReadingOrder([])).toEqual([]);
  });

  test("is not misled by standing lines", () => {
    const standing: Quad = [
      { x: 600, y: 0 },
      { x: 630, y: 4 },
      { x: 600, y: 304 },
      { x: 570, y: 300 },
    ];
    expect(pageTilt([...page(2, 0.05), { corners: standing, score: 1 }])).toBeCloseTo(0.05);
  });
});
