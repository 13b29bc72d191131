// Long reductions with few results on GPUs: parts first, then what they join to; against float64.
import { describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { expectClose, randomNumbers, useDevice } from "../run/devices.ts";
import { GPU_DEVICES } from "../run/gpu_devices.ts";

const axes = (...list: number[]): Value => constantValue(fromNumbers("i64", [list.length], list));
const op = (name: string, inputs: Value[], attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist

interface Case {
  readonly name: string;
  readonly shape: readonly number[];
  build(x: Value): Value;
  /** What the second pass computes besides. */
  also?(y: Value): Value;
  readonly passes: number;
}

const CASES: readonly Case[] = [
  { name: "mean of all squares", shape: [40, 1000], build: (x) => op("ReduceMean", [op("Mul", [x, x]), axes(0, 1)], { keepdims: 0 }), passes: 2 },
  { name: "sums of columns", shape: [2, 10000, 6], build: (x) => op("Sqrt", [op("Abs", [op("ReduceSum", [x, axes(0, 1)], { keepdims: 0 })])]), passes: 2 },
  { name: "largest of rows", shape: [3, 20000], build: (x) => op("ReduceMax", [x, axes(1)], { keepdims: 1 }), passes: 2 },
  { name: "two results of one sum", shape: [10000, 6], build: (x) => op("ReduceSum", [x, axes(0)], { keepdims: 0 }), also: (y) => op("Mul", [y, y]), passes: 2 },
  { name: "a short sum", shape: [3, 2000], build: (x) => op("ReduceSum", [x, axes(1)], { keepdims: 1 }), passes: 1 },
]; // biome-ignore format: a table

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(CASES)("$name of ($shape)", async ({ name, shape, build, also, passes }) => {
    const x = input("x", { dtype: "f32", shape });
    const y = op("Mul", [build(x), constantValue(fromNumbers("f32", [], [0.5]))]);
    const graph: Graph = { inputs: [x], outputs: [{ name: "y", value: y }, ...(also ? [{ name: "z", value: also(y) }] : [])] };
    const inputs = { x: fromNumbers("f32", shape, randomNumbers(1, elementCount(shape))) };
    const program = await compileForGpu(graph, { device: device() });
    try {
      expect(program.kernels()).toHaveLength(passes);
      const [got, want] = [await program.run(inputs), evaluateGraph(graph, inputs)];
      for (const [output, tensor] of Object.entries(want)) expectClose(got[output], tensor, `${name}: ${output}`, 1e-4);
    } finally {
      program.free();
    }
  });
});
