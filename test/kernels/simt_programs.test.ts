// What a GPU with matrix units and subgroups would run for contractions and lines, run in JavaScript: whole schedules for CUDA, float32 and 16-bit, against float64.
import { expect, test } from "vitest";
import { type Attrs, apply, type Graph } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { randomNumbers } from "../run/devices.ts";
import { H200, runSchedule } from "./simt_machine.ts";

const target = H200;

const NHWC = { layout: "NHWC" };
type Case = readonly [op: string, a: readonly number[], b: readonly number[] /* none: one operand */, attrs: Attrs];
const CASES: readonly Case[] = [
  ["Conv", [1, 6, 7, 16], [16, 16, 3, 3], { ...NHWC, pads: [1, 1, 1, 1] }],
  ["Conv", [2, 5, 6, 12], [24, 6, 3, 3], { ...NHWC, pads: [1, 1, 1, 1], group: 2, strides: [2, 1] }],
  ["Conv", [1, 6, 7, 5], [16, 5, 3, 3], { ...NHWC, pads: [1, 0, 0, 1] }],
  ["Conv", [1, 6, 7, 32], [40, 32, 1, 1], NHWC],
  ["ConvTranspose", [1, 4, 5, 16], [16, 24, 3, 3], { ...NHWC, strides: [2, 2], pads: [1, 1, 1, 1] }],
  ["Conv", [2, 6, 7, 8], [8, 1, 3, 3], { ...NHWC, pads: [1, 0, 0, 1], group: 8, strides: [1, 2] }],
  ["Conv", [1, 6, 7, 3], [3, 1, 5, 3], { ...NHWC, pads: [2, 1, 2, 1], group: 3, dilations: [1, 2] }],
  ["ConvTranspose", [2, 4, 5, 16], [16, 8, 4, 5], { ...NHWC, strides: [2, 3], pads: [1, 2, 1, 0], group: 2 }],
  ["ConvTranspose", [1, 5, 3, 16], [16, 9, 3, 4], { ...NHWC, strides: [2, 2], output_padding: [1, 0] }],
  ["ConvTranspose", [2, 4, 5, 12], [12, 1, 2, 3], { ...NHWC, strides: [2, 3] }],
  ["ConvTranspose", [1, 4, 5, 16], [16, 12, 2, 2], { ...NHWC, strides: [2, 2], group: 2 }],
  ["ConvWeightGrad", [2, 8, 7, 16], [2, 8, 7, 16], { ...NHWC, kernel_shape: [3, 3], pads: [1, 1, 1, 1] }],
  ["MatMul", [3, 20, 40], [40, 24], {}],
  ["MatMul", [5, 64], [64, 96], {}],
];

/** With a subgroup for a line, and a workgroup for one. */
const LINES: readonly Case[] = [
  ["Softmax", [4100, 40], [], {}],
  ["Softmax", [3, 700], [], {}],
  ["LayerNormalization", [4, 1030, 36], [36], {}],
  ["ScoreWeights", [2, 3, 200, 256], [], { causal: 1, scale: 0.7 }],
  ["ScoreWeights", [5, 128], [], { scale: 2 }],
  ["ScoreWeightsGrad", [3, 9, 256], [3, 9, 256], { scale: 0.3 }],
];

for (const dtype of ["f32", "bf16", "f16"] as const)
  test.each(dtype === "f32" ? [...CASES, ...LINES] : CASES)(`${dtype} %s (%s) by (%s) %o`, (name, a, b, attrs) => {
    const inputs = [a, b].filter((shape) => shape.length > 0).map((shape, i) => input(`in${i}`, { dtype, shape }));
    const [value] = apply(OPS.get(name)!, inputs, attrs, name); // the test names operators that exist
    const graph: Graph = { inputs, outputs: [{ name: "y", value }] };
    const data = Object.fromEntries(
      inputs.map((v, i) => [`in${i}`, fromNumbers(dtype, v.type.shape, randomNumbers(i + 1, elementCount(v.type.shape)))]),
    );
    const want = toNumbers(evaluateGraph(graph, data).y);
    const schedule = scheduleGraph(graph, gpuBackend(target, 256));
    const memory = runSchedule(schedule, new Map(inputs.map((v, i) => [v, Float64Array.from(toNumbers(data[`in${i}`]))])));
    const got = memory.get(schedule.outputs[0].value)!; // a kernel stored it
    const largest = want.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    const worst = want.reduce((most, v, i) => Math.max(most, Number.isNaN(got[i]) ? Number.POSITIVE_INFINITY : Math.abs(got[i] - v)), 0);
    // The reference rounds its result, the machine does not.
    expect(worst / largest).toBeLessThan({ f32: 1e-6, f16: 2 ** -10, bf16: 2 ** -7 }[dtype]);
  });

test.each([
  [3, 4],
  [4, 1],
])("a transposed convolution with windows of %i and strides of 2 multiplies no zeros: %i products", (k, products) => {
  const inputs = [[1, 8, 8, 16], [16, 16, k, k]].map((shape, i) => input(`in${i}`, { dtype: "f32", shape })); // biome-ignore format: short
  const [value] = apply(OPS.get("ConvTranspose")!, inputs, { layout: "NHWC", strides: [2, 2], pads: [1, 1, 1, 1] }, "up"); // it exists
  const { steps } = scheduleGraph({ inputs, outputs: [{ name: "y", value }] }, gpuBackend(target, 256));
  const calls = steps.flatMap((s) => s.calls ?? []);
  const kernels = [...new Set(calls.map((c) => c.kernel))];
  expect(new Set(kernels.map((kernel) => kernel.name)).size).toBe(kernels.length); // one source holds them
  const left = calls.filter(({ places }) => places[0].k === "value" && places[0].value === inputs[0]);
  expect(left.length).toBe(products);
});
