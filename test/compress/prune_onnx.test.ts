// Whole networks pruned: exact densities, groups that go whole, and layers found by their weights.
import { expect, test } from "vitest";
import { layersOf, layerUses, pruneOnnx } from "../../src/compress/prune/index.ts";
import { OnnxModule } from "../../src/nn/index.ts";
import { convBatches, convNetwork } from "./sample_networks.ts";

const model = convNetwork();
const batches = convBatches(3);

test("layers are found in the order in which they run", () => {
  const dense = new OnnxModule(model);
  const uses = layerUses(dense.graph({ x: [4, 3, 8, 8] }), new Set(dense.namedParameters().map(([name]) => name)));
  expect(layersOf(uses)).toMatchObject([
    { name: "conv", rows: 8, columns: 27, taps: 9, groups: 1 },
    { name: "grouped", rows: 8, columns: 36, taps: 9, groups: 2 },
    { name: "points", rows: 12, columns: 8, taps: 1 },
    { name: "product", rows: 16, columns: 12, isTransposed: true },
    { name: "gemm", rows: 5, columns: 16, isTransposed: false },
  ]);
});

test.each(["magnitude", "sparsegpt", "random"] as const)(
  "%s leaves exactly what was asked for, and distillation keeps it",
  async (method) => {
    const { layers, weights, losses } = await pruneOnnx(model, { sparsity: 0.75, method, batches, candidates: 3, distill: { steps: 5 } });
    expect(layers.map((l) => l.density)).toEqual([0.25, 0.25, 0.25, 0.25, 0.25]);
    expect(losses).toHaveLength(5);
    for (const { name, weights: count } of layers)
      expect(
        weights.get(name)!.data.filter((w: number | bigint) => w !== 0),
        name,
      ).toHaveLength(count / 4);
  },
);
