// Gradients of maximum pools, before → after in text: what the pool keeps, and where rectifiers and sums of biases move.
import { expect, test } from "vitest";
import type { Value } from "../../src/ir/graph.ts";
import { PooledConvWeightGrad } from "../../src/ops/pooled_conv_weight_grad.ts";
import { TiledMaxPoolGrad } from "../../src/ops/tiled_max_pool.ts";
import { gradients } from "../../src/passes/autodiff.ts";
import { tiledPools } from "../../src/passes/tiled_pools.ts";
import { f32, graphOf, op, textAfter } from "./support.ts";

const pass = tiledPools((node) => node.op === TiledMaxPoolGrad);
const x = f32("x", 2, 3, 4, 6);
const bias = f32("bias", 3, 1, 1);
const wrt = (y: Value, ...inputs: Value[]): Value[] => gradients([{ value: y, grad: f32("dy", ...y.type.shape) }], inputs).map((g) => g!); // all depend on it
const tiled = { kernel_shape: [2, 2], strides: [2, 2] };

test("a pool keeps a byte for each maximum", () => {
  const y = op("MaxPool", [x], tiled);
  expect(textAfter(graphOf(y, ...wrt(y, x)), pass)).toEqual([
    "TiledMaxPool(x){kernel_shape=2,2} : 2x3x2x3",
    "TiledMaxPoolGrad(dy, %0.1){kernel_shape=2,2} : 2x3x4x6",
  ]);
});

test("a rectifier before the pool is in the bytes, and sums over pictures are sums over maxima", () => {
  const y = op("MaxPool", [op("Relu", [op("Add", [x, bias])])], tiled);
  expect(textAfter(graphOf(y, ...wrt(y, x, bias)), pass)).toEqual([
    "Add(x, bias) : 2x3x4x6",
    "Relu(%0) : 2x3x4x6",
    "TiledMaxPool(%1){kernel_shape=2,2 rectified=1} : 2x3x2x3",
    "TiledMaxPoolGrad(dy, %2.1){kernel_shape=2,2} : 2x3x4x6",
    "Less(%2.1, [4]) : 2x3x2x3",
    "Where(%4, dy, [0]) : 2x3x2x3",
    "ReduceSum(%5, [0,2,3]) : 1x3x1x1",
    "Reshape(%6, [3,1,1]){allowzero=1} : 3x1x1",
  ]);
});

test("a rectifier that others read too stays", () => {
  const relu = op("Relu", [x]);
  const y = op("Add", [op("ReduceSum", [relu], { keepdims: 0 }), op("ReduceSum", [op("MaxPool", [relu], tiled)], { keepdims: 0 })]);
  const lines = textAfter(graphOf(...wrt(y, x)), pass);
  expect(lines.filter((line) => line.includes("rectified"))).toEqual([]);
  expect(lines.filter((line) => line.startsWith("TiledMaxPoolGrad"))).toHaveLength(1);
  expect(lines.at(-1)).toMatch(/^Where/);
});

test("weights of a first layer take the gradient of the maxima", () => {
  const both = tiledPools((node) => node.op === TiledMaxPoolGrad || node.op === PooledConvWeightGrad);
  const w = f32("w", 4, 3, 3, 3);
  const y = op("MaxPool", [op("Conv", [x, w], { pads: [1, 1, 1, 1] })], tiled);
  expect(textAfter(graphOf(...wrt(y, w)), both).at(-1)).toMatch(/^PooledConvWeightGrad\(x, dy, %1.1\)/);
  expect(textAfter(graphOf(...wrt(y, w, x)), both).filter((line) => line.startsWith("PooledConvWeightGrad"))).toEqual([]);
});

test("other windows, and sums over a part of the picture, stay as they are", () => {
  const overlapping = op("MaxPool", [x], { kernel_shape: [2, 2] });
  expect(textAfter(graphOf(...wrt(overlapping, x)), pass).at(-1)).toContain("MaxPoolGrad(x, %0, dy)");
  const row = f32("row", 3, 4, 1);
  const y = op("MaxPool", [op("Add", [x, row])], tiled);
  expect(textAfter(graphOf(...wrt(y, row)), pass)).toEqual([
    "Add(x, row) : 2x3x4x6",
    "TiledMaxPool(%0){kernel_shape=2,2} : 2x3x2x3",
    "TiledMaxPoolGrad(dy, %1.1){kernel_shape=2,2} : 2x3x4x6",
    "ReduceSum(%2, [0,3]) : 1x3x4x1",
    "Reshape(%3, [3,4,1]){allowzero=1} : 3x4x1",
  ]);
});

test("nothing changes where there are no kernels", () => {
  const y = op("MaxPool", [x], tiled);
  const graph = graphOf(y, ...wrt(y, x));
  expect(tiledPools(() => false).run(graph)).toBe(graph);
});
