// A small network as an ONNX file, for commands to work on: convolution, Relu, mean over the picture, a linear layer, Softmax.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { randomNumbers } from "../../src/cli/random.ts";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { root } from "../bundle.ts";

export function classifierGraph(): Graph {
  const next = randomNumbers(7);
  const weights = (...shape: number[]): Value =>
    constantValue(
      fromNumbers(
        "f32",
        shape,
        Float64Array.from({ length: elementCount(shape) }, () => next() - 0.4),
      ),
    );
  const node = (op: string, inputs: readonly Value[], from: string, attrs: Attrs = {}): Value =>
    apply(OPS.get(op)!, inputs, attrs, from)[0]; // operators of ONNX
  const x = input("x", { dtype: "f32", shape: [1, 3, 12, 16] });
  const features = node(
    "Relu",
    [node("Conv", [x, weights(20, 3, 3, 3), weights(20)], "conv", { kernel_shape: [3, 3], pads: [1, 1, 1, 1] })],
    "relu",
  );
  const flat = node("Flatten", [node("GlobalAveragePool", [features], "pool")], "flatten", { axis: 1 });
  const scores = node("MatMul", [flat, weights(20, 5)], "linear");
  return { inputs: [x], outputs: [{ name: "y", value: node("Softmax", [scores], "softmax", { axis: -1 }) }] };
}

/** Attention of two heads of 8 columns by order, whose last query sees all keys. */
export function attentionModel(queries: number, keys: number): Uint8Array {
  const inputs = [queries, keys, keys].map((places, i) => input(`x${i}`, { dtype: "f32", shape: [1, places, 2, 8] }));
  const [value] = apply(OPS.get("MaskedAttention")!, inputs, { before: keys - queries }, "attention"); // written as what it is made of
  return exportOnnx({ inputs, outputs: [{ name: "y", value }] });
}

/** A folder of its own below the repository, so that what is built there finds packages. */
export function testFolder(name: string): string {
  const folder = join(root, "build/test-cli", name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

export function writeClassifier(folder: string): string {
  const file = join(folder, "classifier.onnx");
  writeFileSync(file, exportOnnx(classifierGraph()));
  return file;
}
