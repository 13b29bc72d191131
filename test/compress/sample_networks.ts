// Small networks with random weights, as ONNX models, and inputs for them.

import { Random } from "../../src/data/random.ts";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { type OnnxModel, readOnnx } from "../../src/formats/onnx/read.ts";
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";

/** Roughly normal numbers. */
export function randomTensor(shape: readonly number[], seed: number): TensorData {
  const random = new Random(seed);
  const normal = () => random.uniform() + random.uniform() + random.uniform() + random.uniform() - 2;
  return fromNumbers("f32", shape, Float64Array.from({ length: elementCount(shape) }, normal));
}

const node = (op: string, inputs: readonly Value[], attrs: Attrs = {}): Value => apply(OPS.get(op)!, inputs, attrs, op)[0];
const modelOf = (graph: Graph): OnnxModel => readOnnx(exportOnnx(graph));

/** x (4, 3, 8, 8) → 3×3 convolution, one in groups, one over points, mean, a product, Gemm, Softmax; weights are called after what they are for. */
export function convNetwork(): OnnxModel {
  const weight = (name: string, seed: number, ...shape: number[]) => constantValue(randomTensor(shape, seed), name);
  const x = input("x", { dtype: "f32", shape: [4, 3, 8, 8] });
  const first = node("Relu", [node("Conv", [x, weight("conv", 1, 8, 3, 3, 3), weight("conv.bias", 2, 8)], { pads: [1, 1, 1, 1] })]);
  const grouped = node("Relu", [
    node("Conv", [first, weight("grouped", 3, 8, 4, 3, 3)], { group: 2, strides: [2, 2], pads: [1, 0, 1, 0] }),
  ]);
  const points = node("Relu", [node("Conv", [grouped, weight("points", 4, 12, 8, 1, 1)])]);
  const flat = node("Flatten", [node("GlobalAveragePool", [points])], { axis: 1 });
  const product = node("Relu", [node("MatMul", [flat, weight("product", 5, 12, 16)])]);
  const scores = node("Gemm", [product, weight("gemm", 6, 5, 16), weight("gemm.bias", 7, 5)], { transB: 1 });
  return modelOf({ inputs: [x], outputs: [{ name: "y", value: node("Softmax", [scores], { axis: -1 }) }] });
}

export const convBatches = (count: number, seed = 100): Record<string, TensorData>[] =>
  Array.from({ length: count }, (_, i) => ({ x: randomTensor([4, 3, 8, 8], seed + i) }));
