// Every operator's samples, compiled for every device of this machine, against the float64 reference.
import { afterAll, beforeAll, describe, test } from "vitest";
import type { CpuDevice } from "../../src/devices/cpu.ts";
import { DTYPES } from "../../src/ir/dtype.ts";
import { apply, type Graph, type Op, type Sample, type TensorType } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { DEVICES, expectCompiledRight, randomNumbers } from "./devices.ts";

const isTensor = (x: TensorType | TensorData): x is TensorData => "data" in x;

function randomTensor({ dtype, shape }: TensorType, seed: number, [lo, hi]: readonly [number, number]): TensorData {
  const { kind } = DTYPES[dtype];
  const values = randomNumbers(seed, elementCount(shape)).map((x) => {
    const inRange = lo + ((x + 1) / 2) * (hi - lo);
    if (kind === "float") return inRange;
    return kind === "bool" ? Number(x > 0) : kind === "uint" ? Math.abs(Math.round(inRange)) : Math.round(inRange);
  });
  return fromNumbers(dtype, shape, values);
}

/** One application of an operator to graph inputs and constants. */
function sampleGraph(op: Op, sample: Sample<unknown>): { graph: Graph; inputs: Record<string, TensorData> } {
  const inputs: Record<string, TensorData> = {};
  const values = sample.inputs.map((x, i) => {
    if (x === null) return null;
    if (isTensor(x)) return constantValue(x);
    inputs[`x${i}`] = randomTensor(x, i + 1, sample.range ?? [-2, 2]);
    return input(`x${i}`, x);
  });
  const outputs = apply(op, values, sample.attrs as Record<string, never>, op.name);
  const graph: Graph = {
    inputs: values.filter((v) => v !== null && v.node.op.name === "Input").map((v) => v!), // absent ones are filtered out
    outputs: outputs.map((value, i) => ({ name: `y${i}`, value })),
  };
  return { graph, inputs };
}

describe.each(DEVICES)("$name", ({ open, guardPages }) => {
  let device: CpuDevice;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device?.close());

  const ops = [...OPS.values()].filter((op) => op.samples?.length);
  test.each(ops.map((op) => [op.name, op] as const))("%s", async (name, op) => {
    for (const [i, sample] of (op.samples ?? []).entries()) {
      const { graph, inputs } = sampleGraph(op, sample);
      await expectCompiledRight(graph, inputs, device, `${name}, sample ${i}`, guardPages);
    }
  });
});
