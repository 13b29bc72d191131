// What is shown of a reading: the table, the numbers as JSON, the drawn picture, and the error of a comparison.
import { describe, expect, test } from "vitest";
import { annotate } from "../../examples/ocr/annotate.ts";
import { compareNets, comparisonInputs, median, relativeError } from "../../examples/ocr/compare.ts";
import { GLYPH_HEIGHT, GLYPH_WIDTH, GLYPHS } from "../../examples/ocr/digits.ts";
import type { Nets } from "../../examples/ocr/net.ts";
import type { Line } from "../../examples/ocr/read_text.ts";
import { comparisonTable, linesJson, linesTable } from "../../examples/ocr/report.ts";
import type { Image } from "../../src/formats/image.ts";

const white: Image = { width: 200, height: 100, data: new Uint8Array(200 * 100 * 3).fill(255) };
const line = (text: string, confidence: number, left: number, top: number): Line => ({
  text,
  confidence,
  turned: 0,
  corners: [
    { x: left, y: top },
    { x: left + 80, y: top },
    { x: left + 80, y: top + 20 },
    { x: left, y: top + 20 },
  ],
});

test("the table lines up, text last", () => {
  expect(linesTable([line("one", 0.9876, 5, 10), line("两 two", 1, 105, 60)]).split("\n")).toEqual([
    "#     sure  turned  corners                      text",
    "1   98.8 %      0°  5,10 85,10 85,30 5,30        one",
    "2  100.0 %      0°  105,60 185,60 185,80 105,80  两 two",
  ]);
  expect(linesTable([])).toBe("#  sure  turned  corners  text");
});

test("JSON has corners as pairs", () => {
  expect(linesJson([line("one", 0.5, 1, 2)])).toEqual([
    {
      text: "one",
      confidence: 0.5,
      turned: 0,
      corners: [
        [1, 2],
        [81, 2],
        [81, 22],
        [1, 22],
      ],
    },
  ]);
});

describe("annotate", () => {
  const at = (image: Image, x: number, y: number): number[] => Array.from(image.data.subarray((y * 200 + x) * 3, (y * 200 + x) * 3 + 3));

  test("frames lines in the colour of their confidence and leaves the original alone", () => {
    const drawn = annotate(white, [line("a", 0.97, 10, 40), line("b", 0.6, 110, 40)]);
    expect(at(drawn, 50, 60)).toEqual([0, 128, 72]);
    expect(at(drawn, 150, 60)).toEqual([196, 24, 40]);
    expect(at(drawn, 50, 50)).toEqual([255, 255, 255]);
    expect(white.data.every((value) => value === 255)).toBe(true);
  });

  test("keeps labels and frames inside of the picture", () => {
    const corners: Line["corners"] = [
      { x: -20, y: -20 },
      { x: 230, y: -20 },
      { x: 230, y: 130 },
      { x: -20, y: 130 },
    ];
    for (const turned of [0, 90, 180, 270] as const)
      expect(annotate(white, [{ text: "a", confidence: 1, turned, corners }]).data).toHaveLength(60000);
  });

  test("has a glyph for all that a label needs", () => {
    for (const character of "0123456789% ") expect(GLYPHS[character]).toHaveLength(GLYPH_HEIGHT);
    expect(Object.values(GLYPHS).every((rows) => rows.every((bits) => bits < 2 ** GLYPH_WIDTH))).toBe(true);
  });
});

describe("comparison", () => {
  test("error is the largest difference over the largest value", () => {
    expect(relativeError(Float32Array.of(1, -4), Float32Array.of(1.5, -4))).toBeCloseTo(0.125);
    expect(relativeError(Float32Array.of(0, 0), Float32Array.of(0, 0))).toBe(0);
    expect(relativeError(Float32Array.of(Number.NaN), Float32Array.of(1))).toBe(Number.POSITIVE_INFINITY);
    expect(relativeError(Float32Array.of(1), Float32Array.of(1, 2))).toBe(Number.POSITIVE_INFINITY);
  });

  test("medians of odd and even counts", () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
  });

  test("runs both engines on the standard shapes", async () => {
    const echo = { run: async ({ shape }: { shape: readonly number[] }) => ({ shape, data: Float32Array.of(1) }) };
    const nets: Nets = { detect: echo, orient: echo, recognize: echo, characters: [] };
    const compared = await compareNets(nets, nets, comparisonInputs(white, [line("a", 1, 10, 10)]), { rounds: 1, turnMs: 0 });
    expect(compared.map(({ shape }) => shape.join("×"))).toEqual(["1×3×640×640", "1×3×48×320", "1×3×48×192"]);
    expect(compared.every(({ maxRelativeError }) => maxRelativeError === 0)).toBe(true);
    expect(comparisonTable(compared).split("\n")).toHaveLength(4);
  });
});
