// Rows scattered on GPUs, with more places than are compared at a time and more columns than a workgroup sums at a time, against float64.
import { describe, expect, test } from "vitest";
import { apply, type Graph } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { expectClose, randomNumbers, useDevice } from "../run/devices.ts";
import { GPU_DEVICES } from "../run/gpu_devices.ts";

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each([
    [9000, 3, 5, 1],
    [300, 1100, 4, 1],
    [1, 257, 3, 1],
    [1, 12, 3, 3],
    [300, 12, 700, 3], // sorted
    [523, 8, 523, 3],
  ])("%d rows of %d to %d places, %d kernels", async (count, width, size, kernels) => {
    const inputs = [input("places", { dtype: "i32", shape: [count] }), input("rows", { dtype: "f32", shape: [count, width] })];
    const [value] = apply(OPS.get("ScatterRows")!, inputs, { size }, "ScatterRows"); // our own
    const graph: Graph = { inputs, outputs: [{ name: "y", value }] };
    const numbers = randomNumbers(3, count);
    const given = {
      places: fromNumbers(
        "i32",
        [count],
        Float64Array.from(numbers, (x) => Math.floor(x * Math.abs(x) * size)), // some often
      ), // negative ones count from the end
      rows: fromNumbers("f32", [count, width], randomNumbers(1, elementCount([count, width]))),
    };
    const program = await compileForGpu(graph, { device: device() });
    try {
      expect(program.kernels()).toHaveLength(kernels);
      expectClose((await program.run(given)).y, evaluateGraph(graph, given).y, "ScatterRows", 1e-4);
    } finally {
      program.free();
    }
  });
});
