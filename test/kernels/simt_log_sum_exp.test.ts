// Logarithms of sums over long lines that are read once: run in JavaScript, against the reference, with what exponentials cannot hold.
import { expect, test } from "vitest";
import { DTYPES } from "../../src/ir/dtype.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { randomNumbers } from "../run/devices.ts";
import { H200, runSchedule } from "./simt_machine.ts";

const op = (name: string, inputs: readonly Value[], attrs: object = {}): Value => apply(OPS.get(name)!, inputs, { ...attrs }, name)[0]; // ONNX's
const list = (...numbers: number[]): Value => constantValue(fromNumbers("i64", [numbers.length], numbers));

/** The schedule for logarithms of the first `width` columns, and the names of its kernels' buffers. */
function scheduled(rows: number, stride: number, width: number, dtype: "f32" | "bf16") {
  const x = input("in0", { dtype, shape: [rows, stride] });
  const cut = width === stride ? x : op("Slice", [x, list(0, 0), list(rows, width), list(0, 1)]);
  const wide = dtype === "f32" ? cut : op("Cast", [cut], { to: DTYPES.f32.onnx });
  const graph: Graph = { inputs: [x], outputs: [{ name: "y", value: op("ReduceLogSumExp", [wide, list(1)], { keepdims: 1 }) }] };
  const schedule = scheduleGraph(graph, gpuBackend(H200, 256));
  const kernels = schedule.steps.flatMap(({ calls }) => (calls ?? []).map(({ kernel }) => kernel.params.map((p) => p.name).join(" ")));
  return { x, schedule, kernels };
}

function run(numbers: Float64Array, stride: number, width: number, dtype: "f32" | "bf16") {
  const { x, schedule, kernels } = scheduled(numbers.length / stride, stride, width, dtype);
  const got = runSchedule(schedule, new Map([[x, Float64Array.from(toNumbers(fromNumbers(dtype, x.type.shape, numbers)))]]));
  return { logs: got.get(schedule.outputs[0].value)!, kernels };
}

const reference = (line: Float64Array): number => {
  const most = line.reduce((a, v) => Math.max(a, v));
  return most === Number.NEGATIVE_INFINITY ? most : most + Math.log(line.reduce((s, v) => s + Math.exp(v - most), 0));
};

test.each([
  [3, 2056, 2051, "bf16"],
  [2, 4100, 4100, "f32"],
] as const)("%i lines of %i, %i of them, %s", (rows, stride, width, dtype) => {
  const numbers = toNumbers(fromNumbers(dtype, [rows, stride], randomNumbers(1, elementCount([rows, stride])).map((v) => 100 * v))); // biome-ignore format: a line
  const { logs, kernels } = run(Float64Array.from(numbers), stride, width, dtype);
  expect(kernels).toEqual(["x out"]);
  for (let r = 0; r < rows; r++) expect(logs[r]).toBeCloseTo(reference(Float64Array.from(numbers.subarray(r * stride, r * stride + width))), 4); // biome-ignore format: a line
});

test("infinities and what is no number", () => {
  const width = 2048;
  const lines = [-1e30, Number.NEGATIVE_INFINITY, 1e30, Number.NEGATIVE_INFINITY].map((v) => new Float64Array(width).fill(v));
  lines[3][700] = Number.NaN;
  lines[0][5] = 3;
  const { logs, kernels } = run(Float64Array.from(lines.flatMap((line) => [...line])), width, width, "f32");
  expect(kernels).toEqual(["x out"]);
  expect([...logs].map((v) => Number(v.toPrecision(6)))).toEqual([3, Number.NEGATIVE_INFINITY, 1e30, Number.NaN]);
});

test("short lines are left to what their expression gives", () => {
  expect(scheduled(4, 1000, 1000, "f32").kernels).not.toEqual(["x out"]);
});
