// What layers are fed with, summed over batches: against windows gathered by hand in float64, for convolutions with groups, strides and padding, and products.
import { expect, test } from "vitest";
import { fedProducts, inputProducts, inputSquares, layersOf, layerUses } from "../../src/compress/prune/index.ts";
import { importGraph } from "../../src/formats/onnx/import.ts";
import { type Graph, topologicalOrder } from "../../src/ir/graph.ts";
import { type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { OnnxModule } from "../../src/nn/index.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { fromData } from "../../src/tensor/index.ts";
import { convBatches, convNetwork, randomTensor } from "./sample_networks.ts";

const model = convNetwork();
const batches = convBatches(2);
const network = new OnnxModule(model);
const layers = layersOf(layerUses(network.graph({ x: [4, 3, 8, 8] }), new Set(network.namedParameters().map(([name]) => name))));

/** What the nodes of products and convolutions read, by the reference. */
function dataOf(x: TensorData): TensorData[] {
  const graph: Graph = importGraph(model);
  const nodes = topologicalOrder(graph).filter(({ op }) => ["Conv", "MatMul", "Gemm"].includes(op.name));
  const outputs = nodes.map(({ inputs }, i) => ({ name: `${i}`, value: inputs[0]! })); // all have data
  return Object.values(evaluateGraph({ inputs: graph.inputs, outputs }, { x }));
}

/** Windows (positions) of columns, for each group, of a convolution over (N, C, H, W). */
function windows(
  { data: _, ...t }: TensorData,
  values: Float64Array,
  groups: number,
  kernel: number,
  stride: number,
  pads: readonly number[],
): number[][][] {
  const [batch, channels, height, width] = t.shape;
  const [top, left, bottom, right] = pads;
  const per = channels / groups;
  return Array.from({ length: groups }, (__, g) => {
    const all: number[][] = [];
    for (let n = 0; n < batch; n++)
      for (let y = -top; y + kernel <= height + bottom; y += stride)
        for (let x = -left; x + kernel <= width + right; x += stride) {
          const window: number[] = [];
          for (let c = g * per; c < (g + 1) * per; c++)
            for (let i = y; i < y + kernel; i++)
              for (let j = x; j < x + kernel; j++)
                window.push(i < 0 || j < 0 || i >= height || j >= width ? 0 : values[((n * channels + c) * height + i) * width + j]);
          all.push(window);
        }
    return all;
  });
}

/** Of each layer, by group, all that its rows were multiplied by. */
function windowsOf(x: TensorData): number[][][][] {
  const [first, grouped, points, product, gemm] = dataOf(x);
  const rows = (t: TensorData) => [
    Array.from({ length: t.shape[0] }, (_, i) => [...toNumbers(t).subarray(i * t.shape[1], (i + 1) * t.shape[1])]),
  ];
  return [
    windows(first, toNumbers(first), 1, 3, 1, [1, 1, 1, 1]),
    windows(grouped, toNumbers(grouped), 2, 3, 2, [1, 0, 1, 0]),
    windows(points, toNumbers(points), 1, 1, 1, [0, 0, 0, 0]),
    rows(product),
    rows(gemm),
  ];
}

const wanted = batches.map(({ x }) => windowsOf(x)).reduce((a, b) => a.map((groups, l) => groups.map((all, g) => [...all, ...b[l][g]])));

/** Σ of f over the windows, (groups, …), next to what was summed. */
function expectNear(got: Float64Array, all: readonly number[][][], f: (window: readonly number[]) => number[]): void {
  const sums = all.flatMap((group) => group.map(f).reduce((a, b) => a.map((v, i) => v + b[i])));
  expect(got).toHaveLength(sums.length);
  const largest = Math.max(...sums.map(Math.abs));
  for (const [i, sum] of sums.entries()) expect(Math.abs(got[i] - sum) / largest).toBeLessThan(1e-5); // float32 sums of some hundred
}

test("squared lengths", async () => {
  const sums = await inputSquares(network, layers, batches);
  for (const [i, { name }] of layers.entries()) expectNear(sums.get(name)!, wanted[i], (w) => w.map((v) => v * v));
});

test("products", async () => {
  const sums = await inputProducts(network, layers, batches);
  for (const [i, { name }] of layers.entries()) expectNear(sums.get(name)!, wanted[i], (w) => w.flatMap((a) => w.map((b) => a * b)));
});

test("products between two networks: the first one's windows times the second one's", async () => {
  const other = new OnnxModule(model);
  const first = other.namedParameters().find(([name]) => name === "conv")![1];
  first.value = fromData(randomTensor(first.shape, 50));
  const { grams: self, crosses: cross } = await fedProducts(network, other, layers, batches);
  expect(self).toEqual(await inputProducts(other, layers, batches));
  expect(cross.get("conv")).toEqual(self.get("conv")); // both see the picture
  const [z, x] = [await inputProducts(network, layers, batches), self].map((sums) => sums.get("points")!);
  const both = cross.get("points")!;
  const trace = (sums: Float64Array) => Array.from({ length: 8 }, (_, i) => sums[i * 9]).reduce((a, b) => a + b);
  expect(trace(both)).not.toBeCloseTo(trace(z), 2);
  expect(trace(both) ** 2).toBeLessThan(trace(z) * trace(x)); // Cauchy and Schwarz
});
