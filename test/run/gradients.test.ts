// Gradients of layers and of small networks, compiled for every device of this machine, against the float64 reference.
import { describe, test } from "vitest";
import type { Graph, Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type Shape, type TensorData } from "../../src/ir/tensor.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import { gradients } from "../../src/passes/autodiff.ts";
import { graphOf, ints, noise, op } from "../passes/support.ts";
import { DEVICES, expectCompiledRight, useDevice } from "./devices.ts";

const f32 = (name: string, ...shape: number[]): Value => input(name, { dtype: "f32", shape });
const classes = (count: number, most: number): Value => input(`classes below ${most}`, { dtype: "i64", shape: [count] });

/** A value and its gradients with respect to all float inputs; of what has several elements the weighted sum is differentiated. */
function differentiated(y: Value): Graph {
  const { inputs } = graphOf(y);
  const wrt = inputs.filter((v) => v.type.dtype === "f32");
  const grad = constantValue(fromNumbers("f32", y.type.shape, noise(elementCount(y.type.shape), 77)));
  const outputs = gradients([{ value: y, grad }], wrt).flatMap((g, i) => (g ? [{ name: `d${inputName(wrt[i])}`, value: g }] : []));
  return { inputs, outputs: [{ name: "y", value: y }, ...outputs] };
}

/** Small whole numbers for inputs named "ties", so that maxima are there several times. */
function draw(value: Value, seed: number): TensorData {
  const { dtype, shape } = value.type;
  const numbers = noise(elementCount(shape), seed);
  const most = Number(/below (\d+)/.exec(inputName(value))?.[1] ?? 3);
  if (dtype === "i64") return fromNumbers(dtype, shape, numbers.map((v) => Math.floor(((v + 1) / 2) * most))); // biome-ignore format: short
  return fromNumbers(dtype, shape, inputName(value) === "ties" ? numbers.map((v) => Math.round(v * 2)) : numbers);
}

const maxPool = (shape: Shape, kernel: number[], attrs: object = {}) => {
  const x = op("Conv", [f32("ties", ...shape), constantValue(fromNumbers("f32", [shape[1], 1, 1, 1], new Array(shape[1]).fill(1)))], {
    group: shape[1],
  });
  return op("MaxPool", [x], { kernel_shape: kernel, strides: kernel, ...attrs });
};

const crossEntropy = (logits: Value): Value => op("SoftmaxCrossEntropyLoss", [logits, classes(logits.type.shape[0], logits.type.shape[1])]);
const linear = (x: Value, n: number, from: number, to: number): Value =>
  op("Gemm", [x, f32(`w${n}`, to, from), f32(`b${n}`, to)], { transB: 1 });

function convolutionNetwork(): Value {
  const still = [0, 1].map((v) => constantValue(fromNumbers("f32", [8], new Array(8).fill(v))));
  const conv = op("Conv", [f32("x", 3, 3, 8, 8), f32("w1", 8, 3, 3, 3), f32("b1", 8)], { pads: [1, 1, 1, 1] });
  const norm = op("BatchNormalization", [conv, f32("scale", 8), f32("bias", 8), ...still], { training_mode: 1 });
  const pooled = op("MaxPool", [op("Relu", [norm])], { kernel_shape: [2, 2], strides: [2, 2] });
  const deeper = op("Relu", [op("Conv", [pooled, f32("w2", 20, 8, 3, 3)], { strides: [2, 2], pads: [1, 1, 1, 1] })]);
  return crossEntropy(linear(op("Flatten", [op("AveragePool", [deeper], { kernel_shape: [2, 2] })]), 3, 20, 5));
}

/** Convolution, rectifier and pool twice, and a layer on all that is left: maxima that tie are among what is rectified. */
function pooledNetwork(): Value {
  const layer = (x: Value, n: number, from: number, to: number): Value => {
    const conv = op("Conv", [x, f32(`w${n}`, to, from, 3, 3), f32(`b${n}`, to)], { pads: [1, 1, 1, 1] });
    return op("MaxPool", [op("Relu", [conv])], { kernel_shape: [2, 2], strides: [2, 2] });
  };
  const deep = layer(layer(f32("x", 20, 1, 8, 12), 1, 1, 18), 2, 18, 20);
  return crossEntropy(linear(op("Flatten", [deep]), 3, 20 * 2 * 3, 5));
}

function attention(): Value {
  const [batch, steps, width, heads] = [2, 6, 16, 2];
  const x = op("Gather", [f32("table", 11, width), classes(batch * steps, 11)]);
  const norm = op("LayerNormalization", [op("Reshape", [x, ints(batch, steps, width)]), f32("scale", width), f32("bias", width)]);
  const part = (name: string, perm: number[]) => {
    const made = op("MatMul", [norm, op("Transpose", [f32(name, width, width)])]);
    return op("Transpose", [op("Reshape", [made, ints(batch, steps, heads, width / heads)])], { perm });
  };
  const weights = op("Softmax", [op("MatMul", [part("wq", [0, 2, 1, 3]), part("wk", [0, 2, 3, 1])])]);
  const mixed = op("Transpose", [op("MatMul", [weights, part("wv", [0, 2, 1, 3])])], { perm: [0, 2, 1, 3] });
  return op("Gelu", [op("Reshape", [mixed, ints(batch * steps, width)])]);
}

const CASES: Readonly<Record<string, () => Value>> = {
  "maxima that tie, 5 channels": () => maxPool([2, 5, 4, 6], [2, 2]),
  "maxima that tie, 35 channels": () => maxPool([1, 35, 6, 4], [3, 2]),
  "maxima of windows that overlap": () => maxPool([1, 8, 7, 6], [3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }),
  "maxima of windows that leave a rest": () => maxPool([1, 8, 7, 5], [2, 2]),
  "an activation before a maximum": () =>
    op("MaxPool", [op("Relu", [op("Conv", [f32("x", 2, 3, 4, 4), f32("w", 16, 3, 1, 1)])])], { kernel_shape: [2, 2], strides: [2, 2] }),
  "rows of 7 that are added": () => op("Gather", [f32("table", 5, 7), classes(12, 5)]),
  "rows of 300 that are added": () => op("Gather", [f32("table", 5, 300), classes(12, 5)]),
  "a perceptron": () => crossEntropy(linear(op("Relu", [linear(f32("x", 9, 12), 1, 12, 40)]), 2, 40, 7)),
  "a convolution network": convolutionNetwork,
  "a network with pools": pooledNetwork,
  "attention over embedded tokens": attention,
};

describe.each(DEVICES)("$name", ({ open, guardPages }) => {
  const device = useDevice(open);

  test.each(Object.entries(CASES))("%s", async (name, make) => {
    const graph = differentiated(make());
    const inputs = Object.fromEntries(graph.inputs.map((v, i) => [inputName(v), draw(v, i + 1)]));
    await expectCompiledRight(graph, inputs, device(), name, guardPages);
  });
});
