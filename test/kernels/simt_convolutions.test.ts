// Convolutions, transposed ones and gradients of weights written for GPUs, in both layouts, with bias and tail; against float64.
import { describe, expect, test } from "vitest";
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantOf, constantValue, input, inputName } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { expectClose, randomNumbers, useDevice } from "../run/devices.ts";
import { GPU_DEVICES } from "../run/gpu_devices.ts";

interface Case {
  readonly op: "Conv" | "ConvTranspose" | "ConvWeightGrad";
  readonly x: readonly number[];
  /** Weights, or the gradient of the result. */
  readonly w: readonly number[];
  readonly attrs?: Attrs;
  readonly bias?: number;
  readonly tail?: boolean;
  readonly isConstant?: boolean;
}

const NHWC = { layout: "NHWC" };
const CASES: readonly Case[] = [
  { op: "Conv", x: [1, 9, 8, 12], w: [16, 12, 3, 3], attrs: { ...NHWC, pads: [1, 1, 1, 1] }, bias: 16, tail: true },
  { op: "Conv", x: [1, 6, 5, 8], w: [16, 4, 3, 3], attrs: { ...NHWC, pads: [1, 1, 1, 1], group: 2 }, isConstant: true },
  { op: "Conv", x: [2, 7, 9, 5], w: [10, 5, 3, 2], attrs: { ...NHWC, pads: [0, 1, 2, 0], strides: [2, 1], dilations: [1, 2] }, bias: 10 },
  { op: "Conv", x: [2, 6, 5, 24], w: [20, 24, 1, 1], attrs: NHWC, bias: 20, tail: true },
  { op: "Conv", x: [1, 9, 9, 8], w: [9, 8, 1, 1], attrs: { ...NHWC, strides: [2, 2] } },
  { op: "Conv", x: [1, 1, 1, 64], w: [24, 64, 1, 1], attrs: NHWC, bias: 24, tail: true },
  { op: "Conv", x: [1, 6, 7, 16], w: [24, 8, 3, 3], attrs: { ...NHWC, pads: [1, 1, 1, 1], group: 2 } },
  { op: "Conv", x: [2, 6, 60], w: [12, 6, 3], attrs: { pads: [1, 1] }, bias: 12 },
  { op: "ConvTranspose", x: [1, 6, 5, 12], w: [12, 10, 3, 3], attrs: { ...NHWC, pads: [1, 1, 1, 1] }, bias: 10, tail: true },
  { op: "ConvTranspose", x: [2, 4, 5, 8], w: [8, 12, 2, 3], attrs: { ...NHWC, strides: [2, 3], pads: [0, 1, 0, 0] } },
  { op: "ConvTranspose", x: [1, 5, 4, 16], w: [16, 8, 3, 3], attrs: { ...NHWC, strides: [2, 2], group: 2, output_padding: [1, 0] } },
  { op: "ConvWeightGrad", x: [2, 8, 7, 6], w: [2, 8, 7, 9], attrs: { ...NHWC, kernel_shape: [3, 3], pads: [1, 1, 1, 1] } },
  { op: "ConvWeightGrad", x: [2, 40, 31, 8], w: [2, 20, 16, 16], attrs: { ...NHWC, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2], group: 2 } },
]; // biome-ignore format: a table

const op = (name: string, inputs: (Value | null)[], attrs: Attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist

function graphOf({ op: name, x, w, attrs, bias, tail, isConstant }: Case): Graph {
  const all = [x, w, ...(bias ? [[bias]] : [])].map((shape, i) => {
    if (i === 1 && isConstant) return constantValue(fromNumbers("f32", shape, randomNumbers(9, elementCount(shape))));
    return input(`in${i}`, { dtype: "f32", shape });
  });
  const inputs = all.filter((v) => !constantOf(v));
  const y = op(name, all, attrs);
  if (!tail) return { inputs, outputs: [{ name: "y", value: y }] };
  const residual = input("residual", y.type);
  const value = op("Add", [op("HardSwish", [y]), residual]);
  return { inputs: [...inputs, residual], outputs: [{ name: "y", value }] };
}

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(CASES.map((c) => [`${c.op} (${c.x}) by (${c.w}) ${JSON.stringify(c.attrs)}`, c] as const))("%s", async (name, c) => {
    const graph = graphOf(c);
    const inputs = Object.fromEntries(
      graph.inputs.map((v, i) => [inputName(v), fromNumbers("f32", v.type.shape, randomNumbers(i + 1, elementCount(v.type.shape)))]),
    );
    const program = await compileForGpu(graph, { device: device() });
    try {
      // Kernels written for products read their left operand first.
      const { params } = program.kernels().find(({ kernel }) => "shared" in kernel && kernel.shared.length > 0)!.kernel; // none: the test fails
      expect(params.map((p) => p.name)).toContain("left");
      if (c.isConstant) expect(program.kernels()).toHaveLength(1);
      expectClose((await program.run(inputs)).y, evaluateGraph(graph, inputs).y, name, 1e-4);
    } finally {
      program.free();
    }
  });
});
