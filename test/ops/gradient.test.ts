// Every differentiable operator's samples: gradients against central differences, in float64.
import { describe, expect, it } from "vitest";
import { DTYPES } from "../../src/ir/dtype.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { type Attrs, apply, type Graph, type Op, type Sample, type TensorType, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import { gradients } from "../../src/passes/autodiff.ts";
import { noise } from "../passes/support.ts";

interface Gap {
  readonly op: string;
  /** Which ones; all, where not given. */
  readonly samples?: readonly number[];
  readonly reason: string;
}

/** Operators of floats that have no gradient, or whose samples lie where there is none. */
const GAPS: readonly Gap[] = [
  { op: "StopGradient", reason: "it stops gradients" },
  { op: "TopK", samples: [2], reason: "two elements are equal: which one is taken may change" },
  { op: "ScatterND", samples: [2], reason: "reduction max has no gradient" },
  { op: "DequantizeLinear", reason: "quantized networks are not trained" },
  { op: "RNNLoop", reason: "nothing is learned from sequences too long to be written out" },
  { op: "GRULoop", reason: "nothing is learned from sequences too long to be written out" },
  { op: "LSTMLoop", reason: "nothing is learned from sequences too long to be written out" },
  { op: "Det", reason: "it needs the inverse, which no operator gives" },
  { op: "FourierLoop", reason: "networks that are trained here have no spectra of so many points" },
  { op: "GridSample", reason: "networks that are trained here do not sample grids" },
  { op: "RoiAlign", reason: "networks that are trained here have no regions" },
  { op: "MaxRoiPool", reason: "networks that are trained here have no regions" },
  { op: "MaxUnpool", reason: "networks that are trained here do not undo pools" },
  { op: "Col2Im", reason: "networks that are trained here spread windows by ConvTranspose" },
];
const hasGap = (name: string, sample: number): boolean =>
  GAPS.some(({ op, samples }) => op === name && (!samples || samples.includes(sample)));

/** Step of the differences: their error is of the order of h², rounding of 1e-16 / h. */
const STEP = 1e-5;
/** Third derivatives of these functions are of the order of 10 to 100. */
const TOLERANCE = 1e-6;

const isTensor = (x: TensorType | TensorData): x is TensorData => "data" in x;
const isFloat = (x: TensorType) => DTYPES[x.dtype].kind === "float";
const f64 = (t: TensorData): TensorData => fromNumbers("f64", t.shape, toNumbers(t));

interface Case {
  readonly sample: number;
  readonly inputs: Record<string, TensorData>;
  /** Sum of all float outputs, weighted. */
  readonly loss: Value;
  readonly wrt: readonly Value[];
  /** All graph inputs. */
  readonly formal: readonly Value[];
}

function randomTensor({ dtype, shape }: TensorType, seed: number, [lo, hi]: readonly [number, number]): TensorData {
  const { kind } = DTYPES[dtype];
  const values = noise(elementCount(shape), seed).map((v) => lo + ((v + 1) / 2) * (hi - lo));
  if (kind === "float") return fromNumbers("f64", shape, values);
  return fromNumbers(dtype, shape, values.map((v) => (kind === "bool" ? Number(v > 0) : kind === "uint" ? Math.abs(Math.round(v)) : Math.round(v)))); // biome-ignore format: one idea
}

/** The operator on float64 inputs; constants that it must know when compiling stay constants. */
function applied(op: Op, sample: Sample<Attrs>): (Pick<Case, "inputs" | "wrt" | "formal"> & { readonly outputs: readonly Value[] }) | null {
  for (const areInputs of [true, false]) {
    const inputs: Record<string, TensorData> = {};
    const wrt: Value[] = [];
    const formal: Value[] = [];
    const values = sample.inputs.map((x, i) => {
      if (!x) return null;
      const isGiven = isTensor(x);
      if (isGiven && !(areInputs && isFloat(x))) return constantValue(x.dtype === "f32" && areInputs ? f64(x) : x);
      const tensor = isGiven ? f64(x) : randomTensor(x, i + 1, sample.range ?? [-2, 2]);
      const value = input(`x${i}`, tensor);
      inputs[`x${i}`] = tensor;
      formal.push(value);
      if (isFloat(tensor)) wrt.push(value);
      return value;
    });
    try {
      return { outputs: apply(op, values, sample.attrs ?? {}, op.name), inputs, wrt, formal };
    } catch (e) {
      if (!(e instanceof HeddleError)) throw e;
    }
  }
  return null;
}

const op = (name: string, inputs: readonly (Value | null)[], attrs: Attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs)[0];

/** Outputs that have no float64, or inputs that have none, leave nothing to differentiate. */
function caseOf(operator: Op, sample: Sample<Attrs>, index: number): Case | null {
  const made = applied(operator, sample);
  const floats = made?.outputs.filter((o) => o.type.dtype === "f64") ?? []; // what is rounded has no slope
  if (!made || made.wrt.length === 0 || floats.length === 0) return null;
  const sums = floats.map((o, i) => {
    const weights = constantValue(fromNumbers("f64", o.type.shape, noise(elementCount(o.type.shape), 50 + i)));
    return op("ReduceSum", [op("Mul", [o, weights])], { keepdims: 0 });
  });
  return { sample: index, formal: made.formal, inputs: made.inputs, loss: op("Sum", sums), wrt: made.wrt };
}

function evaluate(values: readonly Value[], inputs: Record<string, TensorData>, formal: readonly Value[]): Record<string, TensorData> {
  const graph: Graph = { inputs: formal, outputs: values.map((value, i) => ({ name: `y${i}`, value })) };
  return evaluateGraph(graph, inputs);
}

/** Where the gradient differs from central differences of a few elements of each input. */
function check({ inputs, loss, wrt, formal }: Case, most: number): string[] {
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
    const name = inputName(value);
    const count = elementCount(value.type.shape);
    const got = toNumbers(found[`y${i}`]);
    const places = Array.from({ length: Math.min(count, most) }, (_, k) => Math.floor((k * count) / Math.min(count, most)));
    return places.flatMap((k) => {
      const wanted = (at(name, k, STEP) - at(name, k, -STEP)) / (2 * STEP);
      if (Number.isNaN(wanted)) return []; // outside of where the function is defined
      const mine = grads[i] ? got[k] : 0;
      const isClose = Math.abs(mine - wanted) <= TOLERANCE * Math.max(1, Math.abs(wanted));
      return isClose ? [] : [`${name}[${k}]: ${mine}, differences give ${wanted}`];
    });
  });
}

/** Why a sample fails, or nothing. */
function problems(one: Case, most = 12): string[] {
  try {
    return check(one, most);
  } catch (e) {
    if (!(e instanceof HeddleError) || e.code !== "unsupported") throw e;
    return [e.message];
  }
}

/** The gradient of a weighted sum of the gradients. */
function second({ loss, wrt, ...rest }: Case): Case | null {
  const grads = gradients([{ value: loss, grad: constantValue(fromNumbers("f64", [], [1])) }], wrt).filter((g) => g !== null);
  if (grads.length === 0) return null;
  const sums = grads.map((g, i) => {
    const weights = constantValue(fromNumbers("f64", g.type.shape, noise(elementCount(g.type.shape), 90 + i)));
    return op("ReduceSum", [op("Mul", [g, weights])], { keepdims: 0 });
  });
  return { ...rest, wrt, loss: op("Sum", sums) };
}

const tested = [...OPS].flatMap(([name, operator]) => {
  const cases = (operator.samples ?? []).flatMap((sample, i) => caseOf(operator, sample, i) ?? []);
  return cases.length > 0 ? [[name, cases] as const] : [];
});

describe("gradients", () => {
  it.each(tested)("%s", (name, cases) => {
    for (const one of cases) {
      const found = problems(one);
      if (hasGap(name, one.sample)) expect(found, `${name}, sample ${one.sample} works: take it off the list`).not.toEqual([]);
      else expect(found, `sample ${one.sample}`).toEqual([]);
    }
  });
  it("names gaps of operators that there are", () => {
    expect(GAPS.filter((gap) => !OPS.has(gap.op))).toEqual([]);
  });
});

describe("gradients of gradients", () => {
  it.each(tested)("%s", (name, cases) => {
    for (const one of cases) {
      const twice = hasGap(name, one.sample) ? null : second(one);
      if (twice) expect(problems(twice, 4), `sample ${one.sample}`).toEqual([]);
    }
  });
});
