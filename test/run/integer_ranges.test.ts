// Integers that the operators before them keep small are computed by kernels, as are quotients of 32 bits on GPUs: the values are those of JavaScript.
import { describe, expect, test } from "vitest";
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { H200 } from "../kernels/simt_machine.ts";
import { DEVICES, expectCompiledRight, randomNumbers, useDevice } from "./devices.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";

const node = (op: string, inputs: readonly Value[], attrs: Attrs = {}, output = 0): Value => apply(OPS.get(op)!, inputs, attrs, op)[output]; // operators of ONNX
const ints = (...values: number[]): Value => constantValue(fromNumbers("i64", [values.length], values));
const INT64 = 7;
const FLOAT = 1;

const scores = input("scores", { dtype: "f32", shape: [2, 90] });
const places = (): Value => node("TopK", [scores, ints(7)], {}, 1);
const graphOf = (value: Value, x = scores): Graph => ({ inputs: [x], outputs: [{ name: "y", value }] });
const table = constantValue(fromNumbers("f32", [9, 3], randomNumbers(5, 27)));

/** As detectors and decoders write them: what a number of TopK or ArgMax is made into. */
const SMALL: readonly (readonly [string, () => Value])[] = [
  ["the row of a place", () => node("Gather", [table, node("Div", [places(), ints(10)])])],
  ["the column of a place, as a float", () => node("Cast", [node("Mod", [places(), ints(10)])], { to: FLOAT })],
  [
    "two uses of a quotient",
    () => {
      const row = node("Div", [places(), ints(10)]);
      return node("Concat", [node("Sub", [places(), node("Mul", [row, ints(10)])]), node("Neg", [row])], { axis: 1 });
    },
  ],
  ["a class, or none", () => node("Where", [node("Greater", [node("ArgMax", [scores], { axis: 1 }), ints(44)]), ints(1), ints(-1)])],
  ["a class counted from 1", () => node("Add", [node("ArgMin", [scores], { axis: 1, keepdims: 0 }), ints(1)])],
];
const SCORES = { scores: fromNumbers("f32", [2, 90], randomNumbers(3, 180)) };

const numbers = input("numbers", { dtype: "i32", shape: [8] });
const divisors = constantValue(fromNumbers("i32", [8], [7, -7, 7, -7, 1, -1, 0, 3]));
const DIVIDED: readonly (readonly [string, () => Value])[] = ["Div", "Mod"].map((op) => [op, () => node(op, [numbers, divisors])]);
const NUMBERS = { numbers: fromNumbers("i32", [8], [2 ** 30 + 5, 2 ** 30 + 5, -(2 ** 30) - 5, -(2 ** 30) - 5, 2 ** 31 - 1, 12, 9, 0]) };

const CASES = [
  ...SMALL.map(([name, make]) => ({ name, make, x: scores, given: SCORES as Record<string, TensorData> })),
  ...DIVIDED.map(([name, make]) => ({ name, make, x: numbers, given: NUMBERS as Record<string, TensorData> })),
];

test.each(CASES)("$name: kernels alone on a GPU", ({ make, x }) => {
  const { steps } = scheduleGraph(graphOf(make(), x), gpuBackend(H200, 256));
  expect(steps.length).toBeGreaterThan(0);
  expect(steps.filter(({ calls }) => calls === null)).toEqual([]);
});

test("what 32 bits may not hold stays with JavaScript", () => {
  const wide = input("wide", { dtype: "i64", shape: [4] });
  for (const value of [
    node("Add", [wide, ints(1)]),
    node("Mul", [node("Cast", [places()], { to: INT64 }), ints(2 ** 30)]),
    node("Cast", [node("Floor", [scores])], { to: INT64 }),
  ]) {
    const { steps } = scheduleGraph(graphOf(value, wide), gpuBackend(H200, 256));
    expect(steps.filter(({ calls }) => calls === null)).toHaveLength(1);
  }
});

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);
  test.each(CASES)("$name", async ({ make, x, given }) => {
    const graph = graphOf(make(), x);
    const program = await compileForGpu(graph, { device: device() });
    try {
      expect((await program.run(given)).y).toEqual(evaluateGraph(graph, given).y);
    } finally {
      program.free();
    }
  });
});

describe.each(DEVICES)("$name", ({ open, guardPages }) => {
  const device = useDevice(open);
  test.each(CASES)("$name", async ({ name, make, x, given }) => {
    await expectCompiledRight(graphOf(make(), x), given, device(), name, guardPages);
  });
});
