// Boxes of pages that lie straight and askew come in the order they are read.
import { describe, expect, test } from "vitest";
import type { Point, Quad } from "../../examples/ocr/min_area_rect.ts";
import { inReadingOrder, pageTilt, readingCorners, type Turned } from "../../examples/ocr/reading_order.ts";

/** A page of two columns: left boxes begin at 0, right ones at 400, rows 40 apart; turned by `tilt` radians. */
function page(rows: number, tilt: number): Turned[] {
  const turned = (x: number, y: number): Point => ({
    x: x * Math.cos(tilt) - y * Math.sin(tilt),
    y: x * Math.sin(tilt) + y * Math.cos(tilt),
  });
  return Array.from({ length: rows * 2 }, (_, i) => {
    const [left, top, width] = i % 2 ? [400, 40 * (i >> 1) + 3, 90] : [0, 40 * (i >> 1), 300];
    const corners: Quad = [turned(left, top), turned(left + width, top), turned(left + width, top + 24), turned(left, top + 24)];
    return { corners, turned: 0 };
  });
}

describe("inReadingOrder", () => {
  test.each([0, 0.08, -0.08, 0.3])("reads rows from the left on a page turned by %f", (tilt) => {
    const boxes = page(5, tilt);
    const shuffled = boxes.map((_, i) => boxes[(i * 7) % boxes.length]);
    expect(inReadingOrder(shuffled).map((box) => boxes.indexOf(box))).toEqual(boxes.map((_, i) => i));
    expect(pageTilt(boxes)).toBeCloseTo(tilt);
  });

  test.each([90, 180, 270] as const)("reads a page that has to be turned by %i degrees", (turned) => {
    // Boxes know only the picture's directions: their first corner is the one at the picture's top left.
    const boxes = page(5, (turned * Math.PI) / 180 + 0.05).map(({ corners }): Turned => {
      const at = (i: number): Point => corners[(i + 4 - turned / 90) % 4];
      return { corners: [at(0), at(1), at(2), at(3)], turned };
    });
    const shuffled = boxes.map((_, i) => boxes[(i * 3) % boxes.length]);
    expect(inReadingOrder(shuffled).map((box) => boxes.indexOf(box))).toEqual(boxes.map((_, i) => i));
  });

  test("turns corners to the reader's first", () => {
    const [one] = page(1, 0);
    const [a, b, c, d] = one.corners;
    expect(readingCorners({ ...one, turned: 180 })).toEqual([c, d, a, b]);
    expect(readingCorners({ ...one, turned: 270 })).toEqual([d, a, b, c]);
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
    expect(pageTilt([...page(2, 0.05), { corners: standing, turned: 0 }])).toBeCloseTo(0.05);
  });
});
