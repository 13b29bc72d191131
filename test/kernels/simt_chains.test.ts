// Small results and what is computed of them in one kernel on GPUs: gates of channels, means that are normalized, softmax of a few scores; against float64.
import { describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { expectClose, randomNumbers, useDevice } from "../run/devices.ts";
import { GPU_DEVICES } from "../run/gpu_devices.ts";

const op = (name: string, inputs: Value[], attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist
const weights = (seed: number, ...shape: number[]): Value =>
  constantValue(fromNumbers("f32", shape, randomNumbers(seed, elementCount(shape))));

/** What channels are multiplied by: a mean of each, through two pointwise layers. */
function gate(x: Value, channels: number, hidden: number): Value {
  const mean = op("GlobalAveragePool", [x]);
  const first = op("Relu", [op("Conv", [mean, weights(2, hidden, channels, 1, 1), weights(3, hidden)])]);
  return op("HardSigmoid", [op("Conv", [first, weights(4, channels, hidden, 1, 1), weights(5, channels)])], { alpha: 0.2, beta: 0.5 });
}

interface Case {
  readonly name: string;
  readonly shape: readonly number[];
  build(x: Value): readonly Value[];
  /** Of the program. */
  readonly kernels: readonly string[];
}

const CHAIN = "chain";
const CASES: readonly Case[] = [
  { name: "gated channels", shape: [1, 24, 6, 7], build: (x) => [op("Mul", [x, gate(x, 24, 6)])], kernels: [CHAIN] },
  { name: "gated channels of two images", shape: [2, 10, 5, 3], build: (x) => [op("Mul", [x, gate(x, 10, 3)])], kernels: [CHAIN] },
  { name: "gated channels of a large image", shape: [1, 24, 40, 60], build: (x) => [op("Mul", [x, gate(x, 24, 6)])], kernels: ["parts", CHAIN] },
  { name: "a gate that is asked for too", shape: [1, 8, 6, 7], build: (x) => { const g = gate(x, 8, 4); return [op("Mul", [x, g]), g]; }, kernels: [CHAIN, "Group"] },
  { name: "a softmax of means", shape: [1, 12, 5, 8], build: (x) => [op("Softmax", [op("Flatten", [op("GlobalAveragePool", [x])])])], kernels: [CHAIN] },
  { name: "a gate of many channels", shape: [1, 320, 2, 2], build: (x) => [op("Mul", [x, gate(x, 320, 50)])], kernels: ["Group", CHAIN] },
]; // biome-ignore format: a table

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(CASES)("$name ($shape)", async ({ name, shape, build, kernels }) => {
    const x = input("x", { dtype: "f32", shape });
    const graph: Graph = { inputs: [x], outputs: build(x).map((value, i) => ({ name: `y${i}`, value })) };
    const inputs = { x: fromNumbers("f32", shape, randomNumbers(1, elementCount(shape))) };
    const program = await compileForGpu(graph, { device: device() });
    try {
      const names = program.kernels().map(({ kernel }) => kernel.name);
      expect(names.map((n) => /chain|parts|Group(?!_chain)/.exec(n)?.[0] ?? n)).toEqual(kernels);
      const [got, want] = [await program.run(inputs), evaluateGraph(graph, inputs)];
      for (const [output, tensor] of Object.entries(want)) expectClose(got[output], tensor, `${name}: ${output}`, 1e-5);
    } finally {
      program.free();
    }
  });
});
