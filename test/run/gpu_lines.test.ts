// Sorted lines and running sums on GPUs: lines of all lengths and kinds, with what compares oddly, exactly as the reference has them.
import { describe, expect, test } from "vitest";
import type { DType } from "../../src/ir/dtype.ts";
import { type Attrs, apply, type Graph } from "../../src/ir/graph.ts";
import type { SimtKernel } from "../../src/ir/simt.ts";
import { elementCount, fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { expectClose, randomNumbers, useDevice } from "./devices.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";

interface Case {
  readonly op: string;
  readonly dtype: DType;
  readonly shape: Shape;
  /** k, or the axis of the sums. */
  readonly given: number;
  readonly attrs: Attrs;
  /** Launches that are to be made. */
  readonly calls: number;
}

const top = (dtype: DType, shape: Shape, given: number, attrs: Attrs, calls: number): Case => ({ op: "TopK", dtype, shape, given, attrs, calls }); // biome-ignore format: a table
const sums = (dtype: DType, shape: Shape, given: number, attrs: Attrs, calls: number): Case => ({ op: "CumSum", dtype, shape, given, attrs, calls }); // biome-ignore format: a table

const CASES: readonly Case[] = [
  top("f32", [2], 1, {}, 1),
  top("i32", [1], 1, {}, 1),
  top("f32", [40, 3], 2, {}, 1),
  top("f32", [3, 2048], 2048, { largest: 0 }, 1),
  top("f32", [2, 2049, 3], 7, { axis: 1 }, 2),
  top("u32", [2, 9000], 40, {}, 2),
  top("i32", [2, 7001], 7001, { largest: 0 }, 3),
  top("f16", [5000], 3000, {}, 3),
  sums("f32", [70, 33], 0, {}, 1),
  sums("f32", [3, 3000], 1, { exclusive: 1 }, 1),
  sums("i32", [3, 1500, 2], 1, { reverse: 1 }, 1),
  sums("f32", [20000], 0, { exclusive: 1, reverse: 1 }, 3),
  sums("u32", [2, 13001], -1, {}, 3),
];

/** Few different values, so that many are equal; infinities, NaN and both zeros among floats. */
function dataOf({ op, dtype, shape }: Case): TensorData {
  const values = randomNumbers(1, elementCount(shape)).map((v) => Math.round(100 * v));
  if (op === "CumSum") return fromNumbers(dtype, shape, dtype === "u32" ? values.map(Math.abs) : values);
  const odd = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0];
  const isFloat = dtype === "f32" || dtype === "f16";
  return fromNumbers(dtype, shape, isFloat ? values.map((v, i) => (i % 7 === 0 ? odd[(i / 7) % 4] : v)) : values.map((v, i) => (dtype === "u32" ? Math.abs(v) + 2 ** 31 * (i % 2) : v * 20_000_000))); // biome-ignore format: all bits
}

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(CASES)("$op of $dtype $shape, $given $attrs", async (c) => {
    const data = dataOf(c);
    const x = input("x", { dtype: c.dtype, shape: c.shape });
    const given = constantValue(fromNumbers("i64", c.op === "TopK" ? [1] : [], [c.given]));
    const values = apply(OPS.get(c.op)!, [x, given], c.attrs, c.op); // an operator that exists
    const graph: Graph = { inputs: [x], outputs: values.map((value, i) => ({ name: `y${i}`, value })) };
    const want = evaluateGraph(graph, { x: data });
    const program = await compileForGpu(graph, { device: device() });
    try {
      expect(program.schedule.steps.map((s) => s.calls?.length)).toEqual([c.calls]);
      const got = await program.run({ x: data });
      // Sums of small whole numbers are exact in any order.
      for (const { name } of graph.outputs) expect(toNumbers(got[name])).toEqual(toNumbers(want[name]));
    } finally {
      program.free();
    }
  });

  test("threads of a subgroup exchange values where the device() has subgroups", async () => {
    const x = input("x", { dtype: "f32", shape: [3, 700] });
    const [value] = apply(OPS.get("Softmax")!, [x], {}, "Softmax"); // an operator that exists
    const graph: Graph = { inputs: [x], outputs: [{ name: "y", value }] };
    const program = await compileForGpu(graph, { device: device() });
    try {
      const kernel = program.schedule.steps[0].calls![0].kernel as SimtKernel; // no library has it
      expect(/subgroupShuffleXor|__shfl_xor/.test(device().print(kernel))).toBe(device().target.subgroup > 1);
      const data = { x: fromNumbers("f32", [3, 700], randomNumbers(2, 2100)) };
      expectClose((await program.run(data)).y, evaluateGraph(graph, data).y, "Softmax", 1e-5);
    } finally {
      program.free();
    }
  });
});
