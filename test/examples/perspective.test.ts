// Cutting pieces out of pictures: exact where nothing is turned, and back again where they are.
import { describe, expect, test } from "vitest";
import type { Quad } from "../../examples/ocr/min_area_rect.ts";
import { cutLine, flatten, halfTurn, homography, project, quarterTurn } from "../../examples/ocr/perspective.ts";
import type { Image } from "../../src/formats/image.ts";

function picture(width: number, height: number, at: (x: number, y: number, c: number) => number): Image {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => at(Math.floor(i / 3) % width, Math.floor(i / 3 / width), i % 3));
  return { width, height, data };
}
const smooth = picture(80, 60, (x, y, c) => 128 + 60 * Math.sin(x / 9 + c) + 50 * Math.cos(y / 7));
const quad = (...xy: number[]): Quad => [0, 2, 4, 6].map((i) => ({ x: xy[i], y: xy[i + 1] })) as unknown as Quad;

describe("homography", () => {
  test("takes corners to corners, and its opposite takes them back", () => {
    const [from, to] = [quad(0, 0, 50, 3, 47, 30, 4, 36), quad(10, 20, 90, 10, 99, 60, 5, 80)];
    const [there, back] = [homography(from, to), homography(to, from)];
    for (const [i, corner] of from.entries()) {
      expect(project(there, corner).x).toBeCloseTo(to[i].x);
      expect(project(there, corner).y).toBeCloseTo(to[i].y);
    }
    const inside = { x: 21, y: 17 };
    expect(project(back, project(there, inside)).x).toBeCloseTo(inside.x);
    expect(project(back, project(there, inside)).y).toBeCloseTo(inside.y);
  });

  test("refuses corners in a line", () => {
    expect(() => homography(quad(0, 0, 1, 1, 2, 2, 3, 3), quad(0, 0, 1, 0, 1, 1, 0, 1))).toThrow(/on one line/);
  });
});

describe("flatten", () => {
  test("copies an upright rectangle as it is", () => {
    const cut = flatten(smooth, quad(10, 20, 40, 20, 40, 50, 10, 50));
    expect([cut.width, cut.height]).toEqual([30, 30]);
    expect(cut.data).toEqual(picture(30, 30, (x, y, c) => smooth.data[((y + 20) * 80 + x + 10) * 3 + c]).data);
  });

  test("comes back when the inverse is cut from it", () => {
    const corners = quad(12, 6, 70, 14, 64, 52, 8, 44);
    const flat = flatten(smooth, corners);
    const upright = quad(0, 0, flat.width, 0, flat.width, flat.height, 0, flat.height);
    const into = homography(corners, upright);
    // The piece of `flat` that an upright square of the source became.
    const square = quad(30, 20, 50, 20, 50, 40, 30, 40);
    const again = flatten(flat, square.map((p) => project(into, p)) as unknown as Quad);
    const wanted = flatten(smooth, square);
    const shrunk = (image: Image, x: number, y: number) =>
      image.data[(Math.floor(y * image.height) * image.width + Math.floor(x * image.width)) * 3];
    for (const x of [0.1, 0.3, 0.5, 0.7, 0.9])
      for (const y of [0.1, 0.5, 0.9]) expect(Math.abs(shrunk(again, x, y) - shrunk(wanted, x, y))).toBeLessThan(10); // both are floored to pixels
  });

  test("repeats the border outside of the picture", () => {
    const plain = picture(20, 20, () => 77);
    expect(new Set(flatten(plain, quad(-5, -5, 24, -5, 24, 24, -5, 24)).data)).toEqual(new Set([77]));
  });
});

describe("turns", () => {
  const three = picture(3, 2, (x, y) => 10 * y + x);
  const first = (image: Image): number[] => Array.from(image.data).filter((_, i) => i % 3 === 0);

  test("a quarter turn goes against the clock", () => {
    expect([quarterTurn(three).width, quarterTurn(three).height]).toEqual([2, 3]);
    expect(first(quarterTurn(three))).toEqual([2, 12, 1, 11, 0, 10]);
  });

  test("two quarters are a half, two halves are none", () => {
    expect(quarterTurn(quarterTurn(three))).toEqual(halfTurn(three));
    expect(halfTurn(halfTurn(three))).toEqual(three);
  });

  test("standing lines are laid down, others are not", () => {
    expect(cutLine(smooth, quad(10, 5, 20, 5, 20, 55, 10, 55))).toMatchObject({ isTurned: true, image: { width: 50, height: 10 } });
    expect(cutLine(smooth, quad(10, 5, 60, 5, 60, 15, 10, 15))).toMatchObject({ isTurned: false, image: { width: 50, height: 10 } });
  });
});
