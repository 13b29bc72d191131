// Which operators have kernels on GPUs: all samples of these, so that no program of theirs waits for JavaScript; and writing at places that data names in order.
import { describe, expect, test } from "vitest";
import { type Attrs, apply, type Graph } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type Shape, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { H200 } from "../kernels/simt_machine.ts";
import { expectClose, randomNumbers, useDevice } from "./devices.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";
import { sampleGraph } from "./samples.ts";

const OPERATORS = ["CumSum", "ScatterElements", "Scatter", "ScatterND", "Hardmax", "LpPool", "Col2Im", "LayerNormalization", "MaxPool", "AveragePool", "Resize", "Softmax", "ArgMax"]; // biome-ignore format: a table

test.each(OPERATORS)("%s runs in kernels", (name) => {
  const op = OPS.get(name)!; // the table names operators that exist
  for (const sample of op.samples ?? []) {
    const { graph } = sampleGraph(op, sample);
    const { steps } = scheduleGraph(graph, gpuBackend(H200, 256));
    // Places of 64 bits are moved to another layout in JavaScript.
    expect(steps.filter((s) => !s.calls && s.node.op === op)).toEqual([]);
  }
});

/** Of an axis of `size`, with negative ones and many that are equal. */
const places = (shape: Shape, size: number): Float64Array => randomNumbers(3, elementCount(shape)).map((v) => Math.floor((v * size) / 4));

type Case = readonly [op: string, x: Shape, indices: Shape, updates: Shape, size: number, attrs: Attrs];
const CASES: readonly Case[] = [
  ["ScatterElements", [7, 40], [5, 90], [5, 90], 40, { axis: 1 }],
  ["ScatterElements", [50, 6], [300, 4], [300, 4], 50, { axis: 0, reduction: "mul" }],
  ["ScatterElements", [9, 33], [9, 120], [9, 120], 33, { axis: -1, reduction: "min" }],
  ["ScatterND", [6, 5, 16], [70, 2], [70, 16], 5, {}],
  ["ScatterND", [300], [4, 50, 1], [4, 50], 300, { reduction: "add" }],
];

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(CASES)("%s into (%s) at (%s) by (%s)", async (name, x, indices, updates, size, attrs) => {
    const types = [{ dtype: "f32", shape: x }, { dtype: "i64", shape: indices }, { dtype: "f32", shape: updates }] as const; // biome-ignore format: a line an idea
    const inputs = types.map((type, i) => input(`in${i}`, type));
    const [value] = apply(OPS.get(name)!, inputs, attrs, name); // the table names operators that exist
    const graph: Graph = { inputs, outputs: [{ name: "y", value }] };
    const numbers = [randomNumbers(1, elementCount(x)), places(indices, size), randomNumbers(2, elementCount(updates))];
    const data = Object.fromEntries(types.map(({ dtype, shape }, i) => [`in${i}`, fromNumbers(dtype, shape, numbers[i])]));
    const want = toNumbers(evaluateGraph(graph, data).y);
    const program = await compileForGpu(graph, { device: device() });
    try {
      expect(program.schedule.steps.map((s) => s.calls?.length)).toEqual([1]);
      const got = toNumbers((await program.run(data)).y);
      for (const [i, v] of want.entries()) expect(Math.abs(got[i] - v)).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(v)));
    } finally {
      program.free();
    }
  });

  test("more tensors than a kernel has buffers for are joined in turns", async () => {
    const shapes = Array.from({ length: 150 }, (_, i) => [2, 1 + (i % 3), 3]);
    const inputs = shapes.map((shape, i) => input(`in${i}`, { dtype: "f32", shape }));
    const [value] = apply(OPS.get("Concat")!, inputs, { axis: 1 }, "join"); // an operator that exists
    const graph: Graph = { inputs, outputs: [{ name: "y", value }] };
    const data = Object.fromEntries(shapes.map((shape, i) => [`in${i}`, fromNumbers("f32", shape, randomNumbers(i + 1, elementCount(shape)))])); // biome-ignore format: one idea
    const program = await compileForGpu(graph, { device: device() });
    try {
      expect(program.schedule.steps.every((s) => s.calls)).toBe(true);
      expect(toNumbers((await program.run(data)).y)).toEqual(toNumbers(evaluateGraph(graph, data).y));
    } finally {
      program.free();
    }
  });

  test.each<[op: string, gates: number, hidden: number, attrs: Attrs]>([
    ["RNNLoop", 1, 5, { direction: "reverse" }],
    ["GRULoop", 3, 24, { direction: "bidirectional" }],
    ["GRULoop", 3, 20, { linear_before_reset: 1, layout: 1 }],
    ["LSTMLoop", 4, 40, { direction: "bidirectional" }],
  ])("%s with %i gates of %i units, %o", async (name, gates, hidden, attrs) => {
    const [steps, batch, width, d] = [9, 3, 6, attrs.direction === "bidirectional" ? 2 : 1];
    const rows = gates * hidden;
    const state = attrs.layout ? [batch, d, hidden] : [d, batch, hidden];
    const shapes = [attrs.layout ? [batch, steps, width] : [steps, batch, width], [d, rows, width], [d, rows, hidden], [d, 2 * rows], state, state]; // biome-ignore format: a list
    const inputs = shapes.slice(0, gates === 4 ? 6 : 5).map((shape, i) => input(`in${i}`, { dtype: "f32", shape }));
    const values = apply(OPS.get(name)!, [...inputs.slice(0, 4), null, ...inputs.slice(4)], attrs, name); // the table names operators that exist
    const graph: Graph = { inputs, outputs: values.map((value, i) => ({ name: `y${i}`, value })) };
    const data = Object.fromEntries(inputs.map(({ type }, i) => [`in${i}`, fromNumbers("f32", type.shape, randomNumbers(i + 1, elementCount(type.shape)).map((v) => v / 4))])); // biome-ignore format: one idea
    const want = evaluateGraph(graph, data);
    const program = await compileForGpu(graph, { device: device() });
    try {
      expect(program.schedule.steps.map((s) => s.calls?.length)).toEqual([3]);
      const got = await program.run(data);
      for (const { name: output } of graph.outputs) expectClose(got[output], want[output], `${name}: ${output}`, 1e-4);
    } finally {
      program.free();
    }
  });
});
