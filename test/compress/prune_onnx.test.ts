// Whole networks pruned: exact densities, groups that go whole, and layers found by their weights.
import { expect, test } from "vitest";
import {
  fedProducts,
  fitOnMask,
  inputProducts,
  layersOf,
  layerUses,
  matrixOf,
  outputError,
  pruneOnnx,
} from "../../src/compress/prune/index.ts";
import { OnnxModule } from "../../src/nn/index.ts";
import { fromData } from "../../src/tensor/index.ts";
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

test("blocks stay whole through SparseGPT's choice, the fit and distillation", async () => {
  const { weights } = await pruneOnnx(model, {
    sparsity: 0.5,
    method: "sparsegpt",
    grain: { outputs: 8, inputs: 8 },
    scope: "global",
    batches,
    distill: { steps: 5 },
  });
  const points = weights.get("points")!.data as Float32Array; // (12, 8): a block of 8 × 8 and one of 4 × 8
  const product = weights.get("product")!.data as Float32Array; // (12, 16) of 16 rows: two blocks of 8 × 8, two of 8 × 4
  const zeros = (inBlock: (i: number) => boolean, data: Float32Array) => data.filter((w, i) => w === 0 && inBlock(i)).length;
  const kinds = [0, 1].map((block) => zeros((i) => Math.floor(i / 64) === block, points));
  expect([0, 64]).toContain(kinds[0]);
  expect([0, 32]).toContain(kinds[1]);
  for (const rows of [0, 1])
    for (const columns of [0, 1]) {
      const count = zeros((i) => Math.floor(i / 16 / 8) === columns && Math.floor((i % 16) / 8) === rows, product);
      expect([0, columns === 0 ? 64 : 32]).toContain(count);
    }
});

test("each layer is fitted to what the fitted layers before it give: fitting it again gains nothing", async () => {
  const batches = convBatches(12); // so many determine the weights
  const [dense, pruned] = [new OnnxModule(model), new OnnxModule(model)];
  const { weights } = await pruneOnnx(model, { sparsity: 0.5, batches, errors: false });
  for (const [name, parameter] of pruned.namedState()) parameter.value = fromData(weights.get(name)!);
  const parameters = new Map(dense.namedParameters());
  const layers = layersOf(layerUses(dense.graph({ x: [4, 3, 8, 8] }), new Set(parameters.keys()))).filter(({ groups }) => groups === 1);
  const { grams, crosses } = await fedProducts(dense, pruned, layers, batches);
  const denseGrams = await inputProducts(dense, layers, batches);
  for (const layer of layers) {
    const [wanted, fitted] = [
      matrixOf(layer, await parameters.get(layer.name)!.value.tensorData()),
      matrixOf(layer, weights.get(layer.name)!),
    ];
    const moments = { gram: grams.get(layer.name)!, cross: crosses.get(layer.name)! };
    const again = fitOnMask(wanted, fitted, Uint8Array.from(fitted, (w) => Number(w !== 0)), layer.columns, moments); // biome-ignore format: one call
    const denseGram = denseGrams.get(layer.name)!;
    const [before, after] = [fitted, again].map((matrix) => outputError(wanted, matrix, layer.columns, denseGram, moments));
    expect(after / before, layer.name).toBeGreaterThan(0.99);
  }
});
