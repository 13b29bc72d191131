// Layer normalization of many rows in registers, run in JavaScript with subgroups and without, against the reference; few rows are left to their expression.
import { expect, test } from "vitest";
import { DTYPES } from "../../src/ir/dtype.ts";
import { apply, type Graph } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { randomNumbers } from "../run/devices.ts";
import { H200, runSchedule } from "./simt_machine.ts";

function normalized(shape: readonly number[], dtype: "f32" | "bf16", hasBias: boolean, subgroup: number) {
  const width = shape[shape.length - 1];
  const inputs = [shape, [width], ...(hasBias ? [[width]] : [])].map((s, i) => input(`in${i}`, { dtype: "f32", shape: s }));
  const [y] = apply(OPS.get("LayerNormalization")!, inputs, { axis: -1, epsilon: 1e-3 }, "norm");
  const [value] = dtype === "f32" ? [y] : apply(OPS.get("Cast")!, [y], { to: DTYPES[dtype].onnx }, "cast");
  const graph: Graph = { inputs, outputs: [{ name: "y", value }] };
  const schedule = scheduleGraph(graph, gpuBackend({ ...H200, subgroup }, 256));
  const names = schedule.steps.flatMap(({ calls }) => (calls ?? []).map(({ kernel }) => kernel.params.map((p) => p.name).join(" ")));
  return { graph, inputs, schedule, names };
}

test.each([
  [[2, 520, 40], "f32", true, 32],
  [[1027, 128], "bf16", true, 32],
  [[1025, 64], "bf16", false, 0],
] as const)("(%s) to %s, bias %s, subgroups of %i", (shape, dtype, hasBias, subgroup) => {
  const { graph, inputs, schedule, names } = normalized(shape, dtype, hasBias, subgroup);
  expect(names).toEqual([hasBias ? "x scale bias out" : "x scale out"]);
  const data = Object.fromEntries(
    inputs.map(({ type }, i) => [`in${i}`, fromNumbers("f32", type.shape, randomNumbers(i + 1, elementCount(type.shape)).map((v) => v + i))]), // biome-ignore format: a line
  );
  const want = toNumbers(evaluateGraph(graph, data).y);
  const got = runSchedule(schedule, new Map(inputs.map((v, i) => [v, Float64Array.from(toNumbers(data[`in${i}`]))])));
  const own = got.get(schedule.outputs[0].value)!;
  const worst = want.reduce((most, v, i) => Math.max(most, Number.isNaN(own[i]) ? Number.POSITIVE_INFINITY : Math.abs(own[i] - v)), 0);
  expect(worst).toBeLessThan(dtype === "f32" ? 1e-5 : 2 ** -5); // the reference rounds to 8 bits
});

test("few rows, and rows longer than registers hold, are left to what their expression gives", () => {
  for (const shape of [[16, 64], [2000, 4096]]) // biome-ignore format: a line
    expect(normalized(shape, "f32", true, 32).names).not.toContain("x scale bias out");
});
