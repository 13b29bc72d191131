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
    [9000, 3, 5],
    [300, 1100, 4],
    [1, 257, 3],
  ])("%d rows of %d to %d places", async (count, width, size) => {
    const inputs = [input("places", { dtype: "i32", shape: [count] }), input("rows", { dtype: "f32", shape: [count, width] })];
    const [value] = apply(OPS.get("ScatterRows")!, inputs, { size }, "ScatterRows"); // our own
    const graph: Graph = { inputs, outputs: [{ name: "y", value }] };
    const numbers = randomNumbers(3, count);
    const given = {
      places: fromNumbers(
        "i32",
        [count],
        Float64Array.from(numbers, (x) => Math.floor(x * size)),
      ), // negative ones count from the end
      rows: fromNumbers("f32", [count, width], randomNumbers(1, elementCount([count, width]))),
    };
    const program = await compileForGpu(graph, { device: device() });
    try {
      expect(program.kernels()).toHaveLength(1);
      expectClose((await program.run(given)).y, evaluateGraph(graph, given).y, "ScatterRows", 1e-4);
    } finally {
      program.free();
    }
  });
});
