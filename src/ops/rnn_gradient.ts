// Gradients of recurrent layers: back through the steps for the gates, then one product over all steps for each weight.
import type { Builder, Value, VjpContext } from "../ir/graph.ts";
import { MatMul } from "./matmul.ts";
import type { RecurrentAttrs, Sizes } from "./rnn.ts";
import { type CellName, type Direction, directionsOf, joined, Kit, type Step, unrolled } from "./rnn_unroll.ts";

/** Gradients of what a step was made from, (B, rows) and (B, hidden); `fromState` where it differs from `fromInput`. */
interface StepGradient {
  readonly fromInput: Value;
  readonly fromState?: Value;
  /** What reaches the state before by other ways than the product with it. */
  readonly h: Value | null;
  readonly c: Value | null;
}

/** From gradients of the state after a step. */
type CellGradient = (k: Kit, step: Step, dh: Value, dc: Value | null) => StepGradient;

/** x · y · …, and the slopes of a sigmoid and a hyperbolic tangent by their values. */
const product = (k: Kit, ...xs: readonly Value[]): Value => xs.reduce((a, b) => k.op("Mul", a, b));
const rest = (k: Kit, x: Value): Value => k.op("Sub", k.one(x), x);
const ofSigmoid = (k: Kit, y: Value): Value => k.op("Mul", y, rest(k, y));
const ofTanh = (k: Kit, y: Value): Value => rest(k, k.op("Mul", y, y));
const sum = (k: Kit, a: Value | null, b: Value | null): Value | null => (a && b ? k.op("Add", a, b) : (a ?? b));

const rnn: CellGradient = (k, { after }, dh) => ({ fromInput: product(k, dh, ofTanh(k, after.h)), h: null, c: null });

const gru: CellGradient = (k, { before, fromInput, fromState }, dh) => {
  const state = fromState!; // the reset gate is between
  const [z, r] = [0, 1].map((i) => k.op("Sigmoid", k.op("Add", k.gate(fromInput, i), k.gate(state, i))));
  const recurrent = k.gate(state, 2);
  const n = k.op("Tanh", k.op("Add", k.gate(fromInput, 2), k.op("Mul", r, recurrent)));
  const dn = product(k, dh, rest(k, z), ofTanh(k, n));
  const dz = product(k, dh, k.op("Sub", before.h, n), ofSigmoid(k, z));
  const dr = product(k, dn, recurrent, ofSigmoid(k, r));
  return {
    fromInput: joined(k.b, [dz, dr, dn], 1),
    fromState: joined(k.b, [dz, dr, k.op("Mul", dn, r)], 1),
    h: k.op("Mul", dh, z),
    c: null,
  };
};

const lstm: CellGradient = (k, { before, after, fromInput }, dh, dcAfter) => {
  const [i, o, f] = [0, 1, 2].map((gate) => k.op("Sigmoid", k.gate(fromInput, gate)));
  const g = k.op("Tanh", k.gate(fromInput, 3));
  const seen = k.op("Tanh", after.c);
  const dc = sum(k, product(k, dh, o, ofTanh(k, seen)), dcAfter)!; // the first is there
  const gates = [
    product(k, dc, g, ofSigmoid(k, i)),
    product(k, dh, seen, ofSigmoid(k, o)),
    product(k, dc, before.c, ofSigmoid(k, f)),
    product(k, dc, i, ofTanh(k, g)),
  ];
  return { fromInput: joined(k.b, gates, 1), h: null, c: k.op("Mul", dc, f) };
};

const CELLS: Readonly<Record<CellName, CellGradient>> = { RNN: rnn, GRU: gru, LSTM: lstm };

/** Whether the layer is of the usual form; others are differentiated operator by operator. */
function isUsual(name: CellName, attrs: RecurrentAttrs, inputs: readonly (Value | null)[]): boolean {
  const isPlain = !attrs.activations?.length && !attrs.clip && !attrs.input_forget && !inputs[4] && !inputs[7];
  return isPlain && (name !== "GRU" || attrs.linear_before_reset !== 0);
}

/** Of x, w, r, biases, lengths, h, c and peepholes. Undefined where the layer is of another form. */
export function recurrentGradient(
  { build, grad }: VjpContext,
  name: CellName,
  inputs: readonly (Value | null)[],
  attrs: RecurrentAttrs,
  sizes: Sizes,
  defaults: readonly string[],
): readonly (Value | null)[] | undefined {
  if (!isUsual(name, attrs, inputs)) return undefined;
  const k = new Kit(build, sizes, attrs);
  const parts = directionsOf(k, name, inputs, defaults).map((d, i) => {
    const [all, h, c] = [0, 1, 2].map((n) => ofDirection(k, grad(n), n === 0, i));
    return directionGradient(k, name, d, all, h, c);
  });
  const x = parts.map((p) => p.x).reduce((a, b) => k.op("Add", a, b));
  const stacked = (values: readonly Value[], axis = 0) => joined(build, values.map((v) => k.b.reshape(v, v.type.shape.toSpliced(axis, 0, 1))), axis); // biome-ignore format: short
  const states = (pick: (p: DirectionGradient) => Value, i: number) => (inputs[i] ? stacked(parts.map(pick), attrs.layout ? 1 : 0) : null);
  const biases = inputs[3] ? stacked(parts.map((p) => p.biases)) : null;
  return [
    attrs.layout ? build.transpose(x, [1, 0, 2]) : x,
    ...[stacked(parts.map((p) => p.w)), stacked(parts.map((p) => p.r)), biases, null],
    ...[states((p) => p.h, 5), states((p) => p.c, 6), null],
  ].slice(0, inputs.length);
}

/** The part of an output's gradient that is a direction's: (T · B, hidden) of all states, (B, hidden) of the last. */
function ofDirection(k: Kit, grad: Value | null, isAll: boolean, d: number): Value | null {
  if (!grad) return null;
  const { steps, batch, hidden } = k.sizes;
  const isBatchFirst = k.attrs.layout !== 0;
  if (!isAll) return k.b.reshape(k.slice(grad, isBatchFirst ? 1 : 0, d, d + 1), [batch, hidden]);
  const timeFirst = isBatchFirst ? k.b.transpose(grad, [1, 2, 0, 3]) : grad;
  return k.b.reshape(k.slice(timeFirst, 1, d, d + 1), [steps * batch, hidden]);
}

interface DirectionGradient {
  readonly x: Value;
  readonly w: Value;
  readonly r: Value;
  readonly biases: Value;
  readonly h: Value;
  readonly c: Value;
}

function directionGradient(
  k: Kit,
  name: CellName,
  d: Direction,
  all: Value | null,
  lastH: Value | null,
  lastC: Value | null,
): DirectionGradient {
  const { b, sizes } = k;
  const { steps, batch, input } = sizes;
  const made = unrolled(k, name, d, null);
  const zero = k.op("Sub", d.h0, d.h0);
  const found: { readonly at: number; readonly of: StepGradient; readonly before: Value }[] = [];
  let [dh, dc] = [lastH, lastC];
  for (const step of made.toReversed()) {
    const { at } = step;
    const here = sum(k, all && k.slice(all, 0, at * batch, (at + 1) * batch), dh) ?? zero;
    const of = CELLS[name](k, step, here, dc);
    found.push({ at, of, before: step.before.h });
    dh = sum(k, b.op(MatMul, [of.fromState ?? of.fromInput, d.r]), of.h);
    dc = of.c;
  }
  const inOrder = found.sort((s, t) => s.at - t.at);
  const fromInput = joined(b, inOrder.map((s) => s.of.fromInput), 0); // biome-ignore format: short
  const hasOwn = inOrder[0].of.fromState !== undefined;
  const fromState = hasOwn ? joined(b, inOrder.map((s) => s.of.fromState!), 0) : fromInput; // biome-ignore format: all have it
  const states = joined(b, inOrder.map((s) => s.before), 0); // biome-ignore format: short
  const biases = [fromInput, fromState].map((g) => total(b, g));
  return {
    x: b.reshape(b.op(MatMul, [fromInput, d.w]), [steps, batch, input]),
    w: b.op(MatMul, [b.transpose(fromInput, [1, 0]), b.reshape(d.x, [steps * batch, input])]),
    r: b.op(MatMul, [b.transpose(fromState, [1, 0]), states]),
    biases: joined(b, biases, 0),
    h: dh ?? zero,
    c: dc ?? zero,
  };
}

/** Sums of columns. */
const total = (b: Builder, g: Value): Value => b.op("ReduceSum", [g, b.ints(0)], { keepdims: 0 });
