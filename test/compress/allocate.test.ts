// Zeros shared out by what they save: exact numbers, none where nothing is saved, and a faster network than the same part of every layer.
import { expect, test } from "vitest";
import { type Allotted, allocateKept, type LayerCost, type LayerSize, predictedCost, pruneOnnx } from "../../src/compress/prune/index.ts";
import { convBatches, convNetwork } from "./sample_networks.ts";

/** Losses 0, 1, 2, … in a mixed order. */
const layer = (size: number, milliseconds: Allotted["milliseconds"]): Allotted => ({
  losses: Float64Array.from({ length: size }, (_, i) => ((i * 7) % size) / size),
  milliseconds,
});
const sum = (counts: readonly number[]): number => counts.reduce((n, count) => n + count, 0);

test.each([0, 0.1, 0.5, 0.77, 0.9, 0.98, 1])("exactly so many weights stay: %d", (sparsity) => {
  const layers = [layer(501, (d) => 3 * d), layer(64, (d) => (d > 0.5 ? 1 : d)), layer(1000, () => 2)];
  const kept = allocateKept(layers, sparsity);
  expect(sum(kept)).toBe(Math.round(1565 * (1 - sparsity)));
  for (const [i, count] of kept.entries()) {
    expect(count).toBeGreaterThanOrEqual(0);
    expect(count).toBeLessThanOrEqual(layers[i].losses.length);
  }
});

test("of layers alike the slower one loses more, and one that gains nothing loses least", () => {
  const [slow, quick, fixed] = allocateKept([layer(1000, (d) => 10 * d), layer(1000, (d) => 2 * d), layer(1000, () => 5)], 0.5);
  expect(slow).toBeLessThan(quick);
  expect(quick).toBeLessThan(fixed);
});

test("a layer goes beyond the density below which its time falls, or stays whole", () => {
  const step = (d: number): number => (d > 0.4 ? 1 : d);
  for (const sparsity of [0.2, 0.4, 0.6]) {
    const kept = allocateKept(Array(6).fill(layer(400, step)), sparsity, 0.01).map((count) => count / 400);
    // One layer may lie between: the number is exact.
    expect(kept.filter((density) => density > 0.4 && density < 0.95).length, `${sparsity}: ${kept}`).toBeLessThanOrEqual(1);
  }
});

test.each(["magnitude", "wanda", "sparsegpt"] as const)(
  "%s: a layer that many pixels multiply loses more where its time counts",
  async (method) => {
    const positions = new Map<string, number>();
    const cost: LayerCost = (size, density) => {
      positions.set(`${size.rows}×${size.columns}`, size.positions);
      return size.rows * size.columns * size.positions * (size.kernel.every((length) => length === 1) ? density : 1);
    };
    const densityWith = async (ms: LayerCost): Promise<number> => {
      const { density, layers } = await pruneOnnx(convNetwork(), { sparsity: 0.5, method, batches: convBatches(3), cost: ms });
      expect(density).toBeCloseTo(0.5, 3);
      return layers.find(({ name }) => name === "points")!.density; // the network has it
    };
    expect(await densityWith(cost)).toBeLessThan(await densityWith(() => 1));
    expect(positions.get("12×8")).toBeGreaterThan(positions.get("16×12")!); // asked for all layers: pixels, and rows of a batch
  },
);

test.each([
  [{ scope: "layer" }, /in scope global/],
  [{ grain: "filter" }, /only single weights/],
  [{ method: "random" }, /a method with scores/],
] as const)("%j by time is refused", async (options, message) => {
  await expect(pruneOnnx(convNetwork(), { sparsity: 0.5, batches: convBatches(2), cost: () => 1, ...options })).rejects.toThrow(message);
});

test("times as predicted here: zeros pay where there are many, later for windows, and not for groups", async () => {
  const predicted = await predictedCost({ threads: 1 });
  const product = { rows: 512, columns: 512, positions: 256, groups: 1, kernel: [1, 1], strides: [1, 1] };
  const cost = (size: LayerSize, density: number): number => predicted(size, density, Array(100).fill(product)); // its weights come from afar
  const dense = cost(product, 1);
  expect(cost(product, 0.1)).toBeLessThan(dense / 2);
  expect(cost(product, 0.9)).toBe(dense);
  expect(cost({ ...product, groups: 2 }, 0.1)).toBe(dense);
  const windows = { ...product, kernel: [1, 5] };
  expect(cost(windows, 1)).toBe(dense);
  expect(cost(windows, 0.1)).toBeGreaterThan(cost(product, 0.1));
  expect(cost(windows, 0.1)).toBeLessThan(dense);
  expect(cost({ ...product, kernel: [3, 3] }, 1)).toBeLessThan(dense / 2); // Winograd's kernel
  const [twice, thrice] = [512, 768].map((positions) => cost({ ...product, positions }, 1));
  expect(thrice - twice).toBeCloseTo(twice - dense, 6); // in proportion to the positions,
  expect(twice).toBeLessThan(2 * dense); // but weights are read once
  const small = { ...product, rows: 256, columns: 64, positions: 8 };
  expect(predicted(small, 1, [small])).toBeLessThan(cost(small, 1)); // a network of it alone stays in the cache
  await expect(predictedCost({ device: "cuda:0" })).rejects.toThrow(/for processors only/);
});
