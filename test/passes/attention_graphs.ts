// Attention as files write it: what tests of the pass and of its kernels read.
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import { randomNumbers } from "../run/devices.ts";

export const op = (name: string, values: readonly (Value | null)[], attrs: Attrs = {}): Value =>
  apply(OPS.get(name)!, values, attrs, name)[0]; // the tests name operators that exist
export const number = (x: number): Value => constantValue(fromNumbers("f32", [], [x]));
export const ints = (...list: number[]): Value => constantValue(fromNumbers("i64", [list.length], list));
const float = (name: string, ...shape: number[]): Value => input(name, { dtype: "f32", shape });
const flags = (name: string, ...shape: number[]): Value => input(name, { dtype: "bool", shape });

/** (N, T, H · d) to (N, H, T, d), or keys with columns before places. */
const heads = (x: Value, count: number, perm: readonly number[] = [0, 2, 1, 3]): Value => {
  const [n, t, width] = x.type.shape;
  return op("Transpose", [op("Reshape", [x, ints(n, t, count, width / count)])], { perm });
};
const KEYS = [0, 2, 3, 1];
const joined = (x: Value): Value => {
  const [n, h, t, d] = x.type.shape;
  return op("Reshape", [op("Transpose", [x], { perm: [0, 2, 1, 3] }), ints(n, t, h * d)]);
};
const softmax = (x: Value): Value => op("Softmax", [x], { axis: -1 });
const lower = (t: number, s: number, seen: number, hidden: number, dtype: "bool" | "f32"): Value =>
  constantValue(
    fromNumbers(
      dtype,
      [1, 1, t, s],
      Array.from({ length: t * s }, (_, i) => (i % s <= Math.floor(i / s) + s - t ? seen : hidden)),
    ),
  );

/** Of two examples, 9 places, four heads of 8 columns. */
const [q, k, v] = ["q", "k", "v"].map((name) => float(name, 2, 9, 32));
const scoresOf = (scale: number): Value => op("Mul", [op("MatMul", [heads(q, 4), heads(k, 4, KEYS)]), number(scale)]);
const weighted = (scores: Value): Value => joined(op("MatMul", [softmax(scores), heads(v, 4)]));

const repeated = (x: Value, group: number): Value => {
  const [n, h, ...ends] = x.type.shape;
  const wide = op("Expand", [op("Unsqueeze", [x, ints(2)]), ints(n, h, group, ...ends)]);
  return op("Reshape", [wide, ints(n, h * group, ...ends)]);
};

function grouped(): Value {
  const [few, fewValues] = ["fewKeys", "fewValues"].map((name) => heads(float(name, 2, 9, 16), 2));
  const keys = op("Transpose", [repeated(few, 2)], { perm: [0, 1, 3, 2] });
  return joined(op("MatMul", [softmax(op("Div", [op("MatMul", [heads(q, 4), keys]), number(3)])), repeated(fewValues, 2)]));
}

/** One query, and keys of earlier ones. */
function step(): Value {
  const [one, now, nowValue] = ["q", "k", "v"].map((name) => heads(float(name, 1, 1, 32), 2));
  const [past, pastValues] = ["pastKeys", "pastValues"].map((name) => float(name, 1, 2, 300, 16));
  const all = op("Concat", [past, now], { axis: 2 });
  const values = op("Concat", [pastValues, nowValue], { axis: 2 });
  const scores = op("Mul", [op("MatMul", [one, op("Transpose", [all], { perm: [0, 1, 3, 2] })]), number(0.25)]);
  return joined(op("MatMul", [softmax(scores), values]));
}

/** Scaled on both sides, as PyTorch's exporter writes it. */
function scaledBefore(): Value {
  const root = number(Math.sqrt(0.3));
  const scores = op("MatMul", [op("Mul", [heads(q, 4), root]), op("Mul", [heads(k, 4, KEYS), root])]);
  return weighted(op("Add", [scores, op("Where", [flags("mask", 2, 1, 9, 9), number(0), number(Number.NEGATIVE_INFINITY)])]));
}

/** Batch and heads as one axis. */
function flat(): Value {
  const [a, b, c] = ["a", "b", "c"].map((name) => float(name, 6, 7, 8));
  const scores = op("Mul", [op("MatMul", [a, op("Transpose", [b], { perm: [0, 2, 1] })]), number(0.4)]);
  return op("MatMul", [softmax(op("Add", [scores, float("bias", 6, 1, 7)])), c]);
}

/** Queries, keys and values side by side in what one layer gives. */
function packed(): Value {
  const x = op("Transpose", [op("Reshape", [float("packed", 2, 9, 90), ints(2, 9, 3, 6, 5)])], { perm: [2, 0, 3, 1, 4] });
  const [a, b, c] = [0, 1, 2].map((i) => op("Gather", [x, constantValue(fromNumbers("i64", [], [i]))], { axis: 0 }));
  const scores = op("Mul", [op("MatMul", [a, op("Transpose", [b], { perm: [0, 1, 3, 2] })]), number(0.4)]);
  return joined(op("MatMul", [softmax(scores), c]));
}

const capped = (): Value => weighted(op("Mul", [op("Tanh", [op("Div", [scoresOf(0.5), number(2)])]), number(2)]));

/** By what they do to scores, with the attributes that are to be found. */
export const ATTENTIONS: readonly (readonly [name: string, y: Value, attrs: Attrs])[] = [
  ["scaled", weighted(scoresOf(0.3)), { before: -1 }],
  ["places behind a query hidden", weighted(op("Where", [lower(9, 9, 1, 0, "bool"), scoresOf(0.3), number(-1e9)])), { before: 0 }],
  ["places behind a query far below", weighted(op("Add", [scoresOf(0.3), lower(9, 9, 0, -1e9, "f32")])), { before: 0 }],
  ["a mask of places", weighted(op("Where", [flags("mask", 2, 1, 1, 9), scoresOf(0.3), number(-1e9)])), { hidden: Math.fround(-1e9) }],
  ["a mask, and something added", weighted(op("Add", [op("Where", [flags("mask", 2, 1, 9, 9), scoresOf(0.3), number(-1e4)]), float("bias", 4, 1, 9)])), {}],
  ["a mask of what something was added to", weighted(op("Where", [flags("mask", 1, 1, 9, 9), op("Add", [scoresOf(0.3), float("bias", 1, 4, 9, 9)]), number(Number.NEGATIVE_INFINITY)])), {}],
  ["scaled on both sides", scaledBefore(), {}],
  ["groups of heads", grouped(), {}],
  ["one query", step(), { before: -1 }],
  ["heads in the batch", flat(), {}],
  ["packed", packed(), {}],
  ["capped", capped(), { cap: 2 }],
]; // biome-ignore format: a table

/** Not attention, or not only. */
const weights = softmax(scoresOf(0.3));
export const OTHERS: readonly (readonly [name: string, y: readonly Value[]])[] = [
  ["weights are given as well", [joined(op("MatMul", [weights, heads(v, 4)])), weights]],
  ["a softmax over queries", [joined(op("MatMul", [op("Softmax", [scoresOf(0.3)], { axis: 2 }), heads(v, 4)]))]],
  ["scaled after something was added", [weighted(op("Mul", [op("Add", [scoresOf(1), float("bias", 1, 4, 9, 9)]), number(0.3)]))]],
  ["a mask that hides little", [weighted(op("Where", [lower(9, 9, 1, 0, "bool"), scoresOf(0.3), float("others", 1, 1, 9, 9)]))]],
];

export function graphOf(...values: readonly Value[]): { readonly graph: Graph; readonly data: Record<string, TensorData> } {
  const found = new Map<string, Value>();
  const visit = (x: Value): void => {
    if (x.node.op.name === "Input") found.set(inputName(x), x);
    for (const v of x.node.inputs) if (v) visit(v);
  };
  values.forEach(visit);
  const inputs = [...found.values()];
  const data = inputs.map(({ type: { dtype, shape } }, i) => {
    const numbers = randomNumbers(i + 1, elementCount(shape));
    const last = shape[shape.length - 1];
    // Each row of a mask sees its second key.
    const values = dtype === "bool" ? numbers.map((x, e) => Number(x > -0.3 || e % last === 1)) : numbers.map((x) => 2 * x);
    return [inputName(inputs[i]), fromNumbers(dtype, shape, values)];
  });
  return { graph: { inputs, outputs: values.map((value, i) => ({ name: `y${i}`, value })) }, data: Object.fromEntries(data) };
}
