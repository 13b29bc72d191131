// One application of an operator to inputs and constants as a graph, with values drawn by seed: what generated tests run.
import { DTYPES } from "../../src/ir/dtype.ts";
import { apply, type Graph, type Op, type Sample, type TensorType } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { randomNumbers } from "./devices.ts";

/** Operators that have samples, with their names. */
export const SAMPLED = [...OPS.values()].filter((op) => op.samples?.length).map((op) => [op.name, op] as const);

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

export function sampleGraph(op: Op, sample: Sample<unknown>): { graph: Graph; inputs: Record<string, TensorData> } {
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
