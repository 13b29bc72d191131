// Rendered lines: outlines cover the pixels that they should, letters of fonts close, seeds decide, and readings are counted letter by letter.
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { Coverage } from "../../examples/prune/coverage.ts";
import { batchOf, editDistance } from "../../examples/prune/read_lines.ts";
import { readFonts, renderLine } from "../../examples/prune/text_lines.ts";
import { readFont, strokes } from "../../examples/prune/true_type.ts";

function polygon(cover: Coverage, ...points: readonly (readonly [number, number])[]): void {
  for (const [i, [x, y]] of points.entries()) {
    const [u, v] = points[(i + 1) % points.length];
    cover.line(x, y, u, v);
  }
}
const area = (cover: Coverage): number => cover.sums().reduce((a, b) => a + b, 0);

test("coverage is exact: whole pixels, parts of pixels, slopes over many pixels", () => {
  const square = new Coverage(6, 4);
  polygon(square, [1, 1], [3, 1], [3, 3], [1, 3]);
  expect([...square.sums()]).toEqual([0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  const part = new Coverage(4, 2);
  polygon(part, [0.25, 0.5], [2.5, 0.5], [2.5, 1], [0.25, 1]);
  expect([...part.sums()]).toEqual([0.375, 0.5, 0.25, 0, 0, 0, 0, 0]);
  const triangle = new Coverage(12, 9);
  polygon(triangle, [1, 1], [11, 2.5], [3, 8]);
  expect(area(triangle)).toBeCloseTo(0.5 * Math.abs(10 * 7 - 2 * 1.5), 4);
});

test("a hole is not covered, whichever way an outline runs", () => {
  const ring = new Coverage(8, 8);
  polygon(ring, [1, 1], [7, 1], [7, 7], [1, 7]);
  polygon(ring, [2, 2], [2, 6], [6, 6], [6, 2]);
  expect(area(ring)).toBeCloseTo(20, 4);
});

test.each([
  [
    "on the curve first",
    [
      [0, 0, 1],
      [4, 0, 1],
      [4, 4, 0],
      [0, 4, 1],
    ],
  ],
  [
    "off the curve first",
    [
      [4, 4, 0],
      [0, 4, 1],
      [0, 0, 1],
      [4, 0, 1],
    ],
  ],
  [
    "off the curve only",
    [
      [0, 0, 0],
      [4, 0, 0],
      [4, 4, 0],
      [0, 4, 0],
    ],
  ],
] as const)("a contour closes: %s", (_, points) => {
  let [x, y, signed] = [Number.NaN, Number.NaN, 0];
  const starts: number[][] = [];
  strokes(
    points.map(([px, py, on]) => ({ x: px, y: py, isOn: on === 1 })),
    (a, b, c, d) => {
      if (starts.length > 0) expect([a, b]).toEqual([x, y]);
      starts.push([a, b]);
      [x, y] = [c, d];
      signed += (a * d - c * b) / 2;
    },
  );
  expect([x, y]).toEqual(starts[0]);
  expect(Math.abs(signed)).toBeGreaterThan(9);
});

test("texts differ by so many letters", () => {
  expect(editDistance("kitten", "sitting")).toBe(3);
  expect(editDistance("", "abc")).toBe(3);
  expect(editDistance("abc", "abc")).toBe(0);
});

test("what is no font is refused", () => expect(() => readFont(new Uint8Array(64), "x.ttf")).toThrow(/no table head/));

test.runIf(existsSync("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"))(
  "a seed gives the same line, and lines fit the network",
  async () => {
    const fonts = await readFonts(["/usr/share/fonts/truetype/dejavu"]);
    const [a, b, c] = [renderLine(fonts, 5), renderLine(fonts, 5), renderLine(fonts, 6)];
    expect(a).toEqual(b);
    expect(a.text).not.toBe(c.text);
    for (let seed = 0; seed < 30; seed++) {
      const { image, text } = renderLine(fonts, seed);
      expect(text.length).toBeGreaterThan(0);
      expect(image.width / image.height).toBeLessThanOrEqual(320 / 48 + 0.1);
      const spread = Math.max(...image.data) - Math.min(...image.data);
      expect(spread).toBeGreaterThan(80); // something is printed
    }
    expect(batchOf([a, c]).x.shape).toEqual([2, 3, 48, 320]);
  },
);

test("where there are no fonts, it says which packages bring them", () =>
  expect(readFonts(["/no/such/folder"])).rejects.toThrow(/apt-get install fonts-dejavu-core/));
