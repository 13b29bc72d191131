// Gradients of layer normalization with what surrounds them in a training step: one kernel, run in JavaScript with subgroups and without, against the reference.
import { expect, test } from "vitest";
import { DTYPES } from "../../src/ir/dtype.ts";
import { apply, type Graph, topologicalOrder } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { LayerNormGrad } from "../../src/ops/layer_norm_grad.ts";
import { input } from "../../src/ops/source.ts";
import { layerNormGradients } from "../../src/passes/layer_norm_gradients.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { randomNumbers } from "../run/devices.ts";
import { H200, runSchedule } from "./simt_machine.ts";

/** dy is a 16-bit value's wider form, the result is added to a residual, and read in 16 bits as well. */
function training(shape: readonly number[]) {
  const width = shape[shape.length - 1];
  const types = [{ shape }, { shape: [width] }, { dtype: "bf16" as const, shape }, { shape }];
  const inputs = types.map((t, i) => input(`in${i}`, { dtype: "f32", ...t }));
  const op = (name: string, values: typeof inputs, attrs = {}) => apply(OPS.get(name)!, values, attrs, name)[0]; // the test names operators that exist
  const [x, scale, dy, residual] = inputs;
  const earlier = op("Neg", [residual]);
  const [dx, dscale, dbias] = apply(LayerNormGrad, [x, scale, op("Cast", [dy], { to: DTYPES.f32.onnx })], {}, "gradient");
  const sum = op("Add", [earlier, dx]);
  const values = { sum, dscale, dbias, narrow: op("Neg", [op("Cast", [sum], { to: DTYPES.bf16.onnx })]) };
  const graph: Graph = { inputs, outputs: Object.entries(values).map(([name, value]) => ({ name, value })) };
  return { graph, inputs };
}

test.each([
  [[3, 5, 40], 32],
  [[24, 64], 32],
  [[6, 128], 0],
] as const)("(%s), subgroups of %i", (shape, subgroup) => {
  const { graph, inputs } = training(shape);
  const data = Object.fromEntries(
    inputs.map(({ type }, i) => [`in${i}`, fromNumbers(type.dtype, type.shape, randomNumbers(i + 1, elementCount(type.shape)))]),
  );
  const want = evaluateGraph(graph, data);
  const schedule = scheduleGraph(graph, gpuBackend({ ...H200, subgroup }, 256));
  const steps = schedule.steps.filter((s) => s.node.op === LayerNormGrad);
  expect(steps.map(({ node, calls }) => [node.inputs.length, node.inputs[2]?.type.dtype, node.outputs.length, calls?.length])).toEqual([[4, "bf16", 4, 1]]); // biome-ignore format: a line
  expect(schedule.steps.some(({ node }) => node.op.name === "Add")).toBe(false);
  const got = runSchedule(schedule, new Map(inputs.map((v, i) => [v, Float64Array.from(toNumbers(data[`in${i}`]))])));
  for (const { name, value } of schedule.outputs) {
    const own = got.get(value) ?? got.get(schedule.owners.get(value)!)!; // a kernel stored it
    const worst = toNumbers(want[name]).reduce((most, v, i) => Math.max(most, Number.isNaN(own[i]) ? Number.POSITIVE_INFINITY : Math.abs(own[i] - v)), 0); // biome-ignore format: a line
    expect(worst, name).toBeLessThan(name === "narrow" ? 2 ** -6 : 1e-5); // the reference rounds it to 8 bits
  }
});

test("all copies of the sum in 16 bits are the kernel's", () => {
  const { graph } = training([4, 8]);
  const [{ value: sum }] = graph.outputs;
  const [again] = apply(OPS.get("Cast")!, [sum], { to: DTYPES.bf16.onnx }, "again"); // as passes make them one by one
  const outputs = [...graph.outputs, { name: "again", value: apply(OPS.get("Neg")!, [again], {}, "again")[0] }];
  const nodes = topologicalOrder(layerNormGradients(() => true).run({ inputs: graph.inputs, outputs }));
  expect(nodes.filter((n) => n.op.name === "Cast" && n.outputs[0].type.dtype === "bf16")).toEqual([]);
});
