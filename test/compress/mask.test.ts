// Masks keep exactly as many weights as asked, the largest, in the grain and scope that were asked for; scores and schedules by their formulas.
import { describe, expect, test } from "vitest";
import {
  bestOfRandom,
  countKept,
  cubicSparsity,
  keepLargest,
  lampScores,
  parseGrain,
  type Scope,
  type Scored,
  selectMasks,
  wandaScores,
} from "../../src/compress/prune/index.ts";
import { randomTensor } from "./sample_networks.ts";

const scored = (rows: number, columns: number, scores: readonly number[], taps = 1): Scored => ({
  layer: { name: "w", rows, columns, taps },
  scores: Float64Array.from(scores),
});
const masksOf = (all: readonly Scored[], ...[sparsity, grain, scope]: [number, Parameters<typeof selectMasks>[1]["grain"], Scope]) =>
  selectMasks(all, { sparsity, grain, scope }).map((mask) => [...mask].join(""));

describe("single weights", () => {
  test("the largest stay, of equal ones the first", () => {
    expect([...keepLargest(Float64Array.of(1, 5, 5, 2, 5), 2)]).toEqual([0, 1, 1, 0, 0]);
    expect([...keepLargest(Float64Array.of(0, 0, 0), 1)]).toEqual([1, 0, 0]);
    expect([...keepLargest(Float64Array.of(1, 2), 5)]).toEqual([1, 1]);
    expect([...keepLargest(Float64Array.of(1, 2), 0)]).toEqual([0, 0]);
  });
  test("in a layer, a row, all layers", () => {
    const [a, b] = [scored(2, 4, [1, 2, 3, 4, 5, 6, 7, 8]), scored(1, 4, [9, 10, 0.1, 0.2])];
    expect(masksOf([a, b], 0.5, "element", "layer")).toEqual(["00001111", "1100"]);
    expect(masksOf([a, b], 0.5, "element", "row")).toEqual(["00110011", "1100"]);
    expect(masksOf([a, b], 0.5, "element", "global")).toEqual(["00001111", "1100"]);
    expect(masksOf([a, b], 0.75, "element", "global")).toEqual(["00000001", "1100"]);
  });
  test.each([0, 0.1, 1 / 3, 0.9, 0.97, 1])("density is exact at sparsity %d", (sparsity) => {
    const all = [scored(7, 13, [...randomTensor([91], 1).data].map(Number)), scored(5, 9, [...randomTensor([45], 2).data].map(Number))];
    const count = (scope: Scope) => selectMasks(all, { sparsity, grain: "element", scope }).map(countKept);
    expect(count("layer")).toEqual([Math.round(91 * (1 - sparsity)), Math.round(45 * (1 - sparsity))]);
    for (const scope of ["global", "lamp"] as const) expect(count(scope).reduce((a, b) => a + b)).toBe(Math.round(136 * (1 - sparsity)));
  });
  test("a part that is none is refused", () => expect(() => masksOf([], 1.5, "element", "layer")).toThrow(/sparsity 1.5, wanted 0 to 1/));
});

describe("groups", () => {
  const conv = scored(2, 4, [1, 1, 9, 9, 2, 2, 3, 3], 2); // two kernels of two elements in each row
  test("kernels, filters and layers go whole", () => {
    expect(masksOf([conv], 0.5, "kernel", "layer")).toEqual(["00110011"]);
    expect(masksOf([conv], 0.5, "filter", "layer")).toEqual(["11110000"]);
    expect(masksOf([conv, scored(1, 8, Array(8).fill(4))], 0.5, "layer", "global")).toEqual(["00000000", "11111111"]); // 3.75 on average against 4
  });
  test("in all layers, groups of different sizes go while they fit", () =>
    expect(masksOf([conv, scored(1, 4, [0, 1, 0, 1])], 1 / 3, "filter", "global")).toEqual(["11111111", "0000"]));
  test("N of M neighbours stay in each row, also at its end", () => {
    expect(masksOf([scored(2, 4, [1, 2, 3, 4, 4, 3, 2, 1])], 0, { n: 2, m: 4 }, "layer")).toEqual(["00111100"]);
    expect(masksOf([scored(1, 6, [1, 2, 3, 4, 5, 6])], 0, { n: 1, m: 4 }, "layer")).toEqual(["000101"]);
  });
  test("blocks go whole: squares of outputs and inputs, smaller ones at the edges", () => {
    // 9 × 10 in blocks of 8: 64, 16, 8 and 2 weights; what is at (0, 9) and (8, 0) is large.
    const scores = Float64Array.from({ length: 90 }, (_, i) => (i % 10 >= 8 ? 3 : i >= 80 ? 2 : 1));
    const rows = (mask: string): string[] => mask.match(/.{10}/g)!;
    const layer = { name: "w", rows: 9, columns: 10, taps: 1 };
    const [half] = masksOf([{ layer, scores }], 64 / 90, { outputs: 8, inputs: 8 }, "layer");
    expect(rows(half)).toEqual([...Array(8).fill("0000000011"), "1111111111"]);
    const [less] = masksOf([{ layer, scores }], 60 / 90, { outputs: 8, inputs: 8 }, "layer"); // 64 do not fit, what comes next does
    expect(rows(less)).toEqual([...Array(8).fill("1111111100"), "0000000000"]);
  });
  test("of a convolution a block is one element of its kernels", () => {
    const [rows, channels, taps] = [16, 8, 9];
    const scores = Float64Array.from(
      { length: rows * channels * taps },
      (_, i) => (i % taps === 4 ? 1 : 0) + (i >= 8 * channels * taps ? 2 : 0),
    );
    const [mask] = selectMasks([{ layer: { name: "w", rows, columns: channels * taps, taps }, scores }], {
      sparsity: 1 - 2 / 18,
      grain: { outputs: 8, inputs: 8 },
      scope: "row",
    });
    expect([...mask]).toEqual(Array.from({ length: mask.length }, (_, i) => (i % taps === 4 ? 1 : 0))); // in each row of blocks the one in the middle
  });
  test("grains are read from text", () => {
    expect(parseGrain("16x16")).toEqual({ outputs: 16, inputs: 16 });
    expect(parseGrain("16x4")).toEqual({ outputs: 16, inputs: 4 });
    expect(() => parseGrain("0x4")).toThrow(/wanted element/);
    expect(parseGrain("2:4")).toEqual({ n: 2, m: 4 });
    expect(parseGrain("filter")).toBe("filter");
    expect(() => parseGrain("4:2")).toThrow(/wanted element, kernel/);
  });
});

test("Wanda's scores are |w| times the length of the input, each group of rows with inputs of its own", () => {
  expect([...wandaScores(Float64Array.of(1, -2, 3, -4), 2, Float64Array.of(4, 9))]).toEqual([2, 6, 6, 12]);
  expect([...wandaScores(Float64Array.of(1, -2, 3, -4), 2, Float64Array.of(4, 9, 1, 0))]).toEqual([2, 6, 3, 0]);
});

describe("LAMP: what is left of its layer decides", () => {
  test("the square of a weight in parts of it and all larger ones", () => {
    const [a, b, c] = [1, 4, 9];
    expect([...lampScores(Float64Array.of(b, a, c))]).toEqual([b / (b + c), a / (a + b + c), 1]);
    expect([...lampScores(Float64Array.of(0, 0))]).toEqual([0, 0]);
  });
  test("a layer's scale does not count, and its largest weight goes last", () => {
    const [large, small] = [scored(2, 4, [1, 2, 3, 4, 5, 6, 7, 8]), scored(1, 4, [0.01, 0.02, 0.03, 0.04])];
    expect(masksOf([large, small], 2 / 3, "element", "global")).toEqual(["00001111", "0000"]);
    expect(masksOf([large, small], 2 / 3, "element", "lamp")).toEqual(["00000011", "0011"]);
    expect(masksOf([large, small], 10 / 12, "element", "lamp")).toEqual(["00000001", "0001"]);
  });
  test("blocks of all layers compete by the mean square of what they have", () => {
    const block = (value: number): number[] => Array(64).fill(value);
    const wide = scored(8, 8, block(3));
    const tall: Scored = {
      layer: { name: "t", rows: 24, columns: 8, taps: 1 },
      scores: Float64Array.from([...block(1), ...block(9), ...block(2)]),
    };
    const masks = selectMasks([wide, tall], { sparsity: 0.5, grain: { outputs: 8, inputs: 8 }, scope: "lamp" });
    expect(masks.map((mask) => [...mask].filter((_, i) => i % 64 === 0))).toEqual([[1], [0, 1, 0]]);
  });
});

test("the cubic schedule rises fast and ends slowly (Zhu and Gupta 2018)", () => {
  const sparsity = cubicSparsity({ initial: 0.1, final: 0.9, begin: 100, end: 300 });
  expect([0, 100, 150, 200, 250, 300, 999].map(sparsity)).toEqual(
    [0, 0, 0.25, 0.5, 0.75, 1, 1].map((part) => expect.closeTo(0.9 - 0.8 * (1 - part) ** 3, 12)),
  );
  expect(() => cubicSparsity({ initial: 0.9, final: 0.5, end: 10 })).toThrow(/wanted to rise/);
});

test("of random candidates the one that errs least is taken, and the seed decides", async () => {
  const layers = [{ name: "w", rows: 4, columns: 8, taps: 1 }];
  const seen: string[] = [];
  const choose = (seed: number) =>
    bestOfRandom(layers, {
      sparsity: 0.5,
      grain: "element",
      candidates: 20,
      seed,
      misclassification: async ([mask]) => {
        seen.push(mask.join(""));
        return mask.reduce((n, kept, i) => n + (kept ? i : 0), 0); // low places are good
      },
    });
  const { masks, error, errors } = await choose(3);
  expect(countKept(masks[0])).toBe(16);
  expect(error).toBe(Math.min(...errors));
  expect(masks[0].join("")).toBe(seen[errors.indexOf(error)]);
  expect(new Set(seen).size).toBe(20);
  expect((await choose(3)).masks).toEqual(masks);
});
