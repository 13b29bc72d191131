// Every differentiable operator's samples: gradients against central differences, in float64.
import { describe, expect, it } from "vitest";
import { DTYPES } from "../../src/ir/dtype.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { type Attrs, apply, type Graph, type Op, type Sample, type TensorType, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { gradients } from "../../src/passes/autodiff.ts";
import { noise } from "../passes/support.ts";

/** Operators of floats that have no gradient yet, or can have none. */
const GAPS: Readonly<Record<string, string>> = {};

/** Step of the differences: their error is of the order of h², rounding of 1e-16 / h. */
const STEP = 1e-5;
/** Third derivatives of these functions are of the order of 10 to 100. */
const TOLERANCE = 1e-6;

const isTensor = (x: TensorType | TensorData): x is TensorData => "data" in x;
const isFloat = (x: TensorType) => DTYPES[x.dtype].kind === "float";
const f64 = (t: TensorData): TensorData => fromNumbers("f64", t.shape, toNumbers(t));

interface Case {
  readonly inputs: Record<string, TensorData>;
  /** Sum of all float outputs, weighted. */
  readonly loss: Value;
  readonly wrt: readonly Value[];
}

function randomTensor({ dtype, shape }: TensorType, seed: number, [lo, hi]: readonly [number, number]): TensorData {
  const { kind } = DTYPES[dtype];
  const values = noise(elementCount(shape), seed).map((v) => lo + ((v + 1) / 2) * (hi - lo));
  if (kind === "float") return fromNumbers("f64", shape, values);
  return fromNumbers(dtype, shape, values.map((v) => (kind === "bool" ? Number(v > 0) : kind === "uint" ? Math.abs(Math.round(v)) : Math.round(v)))); // biome-ignore format: one idea
}

/** The operator on float64 inputs; constants that it must know when compiling stay constants. */
function applied(op: Op, sample: Sample<Attrs>): { outputs: readonly Value[]; inputs: Record<string, TensorData>; wrt: Value[] } | null {
  for (const areInputs of [true, false]) {
    const inputs: Record<string, TensorData> = {};
    const wrt: Value[] = [];
    const values = sample.inputs.map((x, i) => {
      if (!x) return null;
      const isGiven = isTensor(x);
      if (isGiven && !(areInputs && isFloat(x))) return constantValue(x.dtype === "f32" && areInputs ? f64(x) : x);
      const tensor = isGiven ? f64(x) : randomTensor(x, i + 1, sample.range ?? [-2, 2]);
      const value = input(`x${i}`, tensor);
      inputs[`x${i}`] = tensor;
      if (isFloat(tensor)) wrt.push(value);
      return value;
    });
    try {
      return { outputs: apply(op, values, sample.attrs ?? {}, op.name), inputs, wrt };
    } catch (e) {
      if (!(e instanceof HeddleError)) throw e;
    }
  }
  return null;
}

const op = (name: string, inputs: readonly (Value | null)[], attrs: Attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs)[0];

/** Outputs that have no floats, or inputs that have none, leave nothing to differentiate. */
function caseOf(operator: Op, sample: Sample<Attrs>): Case | null {
  const made = applied(operator, sample);
  const floats = made?.outputs.filter((o) => isFloat(o.type)) ?? [];
  if (!made || made.wrt.length === 0 || floats.length === 0) return null;
  const sums = floats.map((o, i) => {
    const weights = constantValue(fromNumbers("f64", o.type.shape, noise(elementCount(o.type.shape), 50 + i)));
    return op("ReduceSum", [op("Mul", [op("CastLike", [o, weights]), weights])], { keepdims: 0 });
  });
  return { inputs: made.inputs, loss: op("Sum", sums), wrt: made.wrt };
}

function evaluate(values: readonly Value[], inputs: Record<string, TensorData>, formal: readonly Value[]): Record<string, TensorData> {
  const graph: Graph = { inputs: formal, outputs: values.map((value, i) => ({ name: `y${i}`, value })) };
  return evaluateGraph(graph, inputs);
}

/** Largest difference between the gradient and central differences of a few elements of each input. */
function check({ inputs, loss, wrt }: Case, formal: readonly Value[]): string[] {
  const one = constantValue(fromNumbers("f64", [], [1]));
  const grads = gradients([{ value: loss, grad: one }], wrt);
  const found = evaluate(
    grads.map((g, i) => g ?? wrt[i]),
    inputs,
    formal,
  );
  const at = (name: string, k: number, by: number): number => {
    const numbers = toNumbers(inputs[name]).slice();
    numbers[k] += by;
    return toNumbers(evaluate([loss], { ...inputs, [name]: fromNumbers("f64", inputs[name].shape, numbers) }, formal).y0)[0];
  };
  return wrt.flatMap((value, i) => {
    const name = (value.node.attrs as { name: string }).name;
    const count = elementCount(value.type.shape);
    const got = toNumbers(found[`y${i}`]);
    const places = Array.from({ length: Math.min(count, 12) }, (_, k) => Math.floor((k * count) / Math.min(count, 12)));
    return places.flatMap((k) => {
      const wanted = (at(name, k, STEP) - at(name, k, -STEP)) / (2 * STEP);
      const mine = grads[i] ? got[k] : 0;
      const isClose = Math.abs(mine - wanted) <= TOLERANCE * Math.max(1, Math.abs(wanted));
      return isClose ? [] : [`${name}[${k}]: ${mine}, differences give ${wanted}`];
    });
  });
}

describe("gradients", () => {
  for (const [name, operator] of OPS) {
    const cases = (operator.samples ?? []).flatMap((sample) => {
      const made = caseOf(operator, sample);
      return made ? [made] : [];
    });
    if (cases.length === 0) continue;
    it(name, () => {
      const wrong: string[] = [];
      for (const [i, one] of cases.entries()) {
        const formal = Object.keys(one.inputs).map((key) => one.loss && findInput(one, key));
        try {
          wrong.push(...check(one, formal).map((line) => `sample ${i}: ${line}`));
        } catch (e) {
          if (!(e instanceof HeddleError) || e.code !== "unsupported") throw e;
          wrong.push(e.message);
        }
      }
      if (name in GAPS) expect(wrong, `${name} works: take it off the list`).not.toEqual([]);
      else expect(wrong).toEqual([]);
    });
  }
});

/** The Input node of a name. */
function findInput({ loss }: Case, name: string): Value {
  const seen = new Set<Value>();
  const stack = [loss];
  while (stack.length > 0) {
    const value = stack.pop()!;
    if (seen.has(value)) continue;
    seen.add(value);
    if (value.node.op.name === "Input" && (value.node.attrs as { name: string }).name === name) return value;
    for (const v of value.node.inputs) if (v) stack.push(v);
  }
  return input(name, { dtype: "f64", shape: [] });
}
