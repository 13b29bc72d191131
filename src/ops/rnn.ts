// Recurrent layers: RNN, GRU and LSTM, forward, in reverse and both, with sequences of different lengths.
import type { DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, apply, defineOp, type Node, type Op, type TensorType, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type Shape, type TensorData, toNumbers } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { FLOATS, f32, inputType, sameDType, tensorOf } from "./define.ts";
import { type Activation, activationsOf } from "./rnn_activation.ts";
import { recurrentGradient } from "./rnn_gradient.ts";
import { type CellName, directionsOf, Kit, outputsOf, unrolled } from "./rnn_unroll.ts";

export interface RecurrentAttrs {
  readonly activations?: readonly string[];
  readonly activation_alpha?: readonly number[];
  readonly activation_beta?: readonly number[];
  readonly clip?: number;
  readonly direction: string;
  readonly hidden_size?: number;
  readonly layout: number;
  readonly linear_before_reset: number;
  readonly input_forget: number;
}

/** Sizes of a recurrent layer. */
export interface Sizes {
  readonly steps: number;
  readonly batch: number;
  readonly input: number;
  readonly hidden: number;
  readonly directions: number;
}

/** What differs between the layers. */
interface Cell {
  readonly name: CellName;
  readonly gates: number;
  /** Activations of one direction when none are given. */
  readonly activations: readonly string[];
  readonly hasCellState: boolean;
  /** One step of one batch element: writes the new hidden (and cell) state in place. */
  step(s: StepInputs): void;
}

interface StepInputs {
  readonly hidden: number;
  /** Input products with both biases of the input, one number a gate and unit: (gates · hidden). */
  readonly fromInput: Float64Array;
  /** Recurrence weights (gates · hidden, hidden) and biases (gates · hidden). */
  readonly r: Float64Array;
  readonly rBias: Float64Array;
  /** Peephole weights (3 · hidden), or null. */
  readonly peepholes: Float64Array | null;
  readonly h: Float64Array;
  readonly c: Float64Array;
  readonly f: readonly Activation[];
  readonly attrs: RecurrentAttrs;
}

/** r row · h + bias. */
function recur(s: StepInputs, row: number, h: Float64Array): number {
  let sum = s.rBias[row];
  const at = row * s.hidden;
  for (let k = 0; k < s.hidden; k++) sum += s.r[at + k] * h[k];
  return sum;
}

const clipped = (x: number, clip: number | undefined): number => (clip ? Math.min(clip, Math.max(-clip, x)) : x);

function rnnStep(s: StepInputs): void {
  const old = s.h.slice();
  for (let j = 0; j < s.hidden; j++) s.h[j] = s.f[0](clipped(s.fromInput[j] + recur(s, j, old), s.attrs.clip));
}

/** Gates z (update), r (reset), h (candidate). */
function gruStep(s: StepInputs): void {
  const { hidden: n, fromInput, h, f, attrs } = s;
  const old = h.slice();
  const gate = (j: number) => f[0](clipped(fromInput[j] + recur(s, j, old), attrs.clip));
  const z = Float64Array.from({ length: n }, (_, j) => gate(j));
  const reset = Float64Array.from({ length: n }, (_, j) => gate(n + j));
  const gated = old.map((v, j) => v * reset[j]);
  for (let j = 0; j < n; j++) {
    const row = 2 * n + j;
    const recurrent = attrs.linear_before_reset ? reset[j] * recur(s, row, old) : recur(s, row, gated);
    const candidate = f[1](clipped(fromInput[row] + recurrent, attrs.clip));
    h[j] = (1 - z[j]) * candidate + z[j] * old[j];
  }
}

/** Gates i (input), o (output), f (forget), c (candidate). */
function lstmStep(s: StepInputs): void {
  const { hidden: n, fromInput, h, c, f, attrs, peepholes: p } = s;
  const old = h.slice();
  const raw = (row: number) => fromInput[row] + recur(s, row, old);
  for (let j = 0; j < n; j++) {
    const peep = (part: number, cell: number) => (p ? p[part * n + j] * cell : 0);
    const before = c[j];
    const input = f[0](clipped(raw(j) + peep(0, before), attrs.clip));
    const forget = attrs.input_forget ? 1 - input : f[0](clipped(raw(2 * n + j) + peep(2, before), attrs.clip));
    const candidate = f[1](clipped(raw(3 * n + j), attrs.clip));
    c[j] = forget * before + input * candidate;
    h[j] = f[0](clipped(raw(n + j) + peep(1, c[j]), attrs.clip)) * f[2](c[j]);
  }
}

const CELLS: readonly Cell[] = [
  { name: "RNN", gates: 1, activations: ["Tanh"], hasCellState: false, step: rnnStep },
  { name: "GRU", gates: 3, activations: ["Sigmoid", "Tanh"], hasCellState: false, step: gruStep },
  { name: "LSTM", gates: 4, activations: ["Sigmoid", "Tanh", "Tanh"], hasCellState: true, step: lstmStep },
];

/** Shapes that every input after x must have, by number: w, r, b, sequence_lens, initial_h, initial_c, p. */
function wantedShapes(cell: Cell, s: Sizes, isBatchFirst: boolean): Shape[] {
  const { directions: d, hidden: n } = s;
  const state = isBatchFirst ? [s.batch, d, n] : [d, s.batch, n];
  return [[d, cell.gates * n, s.input], [d, cell.gates * n, n], [d, 2 * cell.gates * n], [s.batch], state, state, [d, 3 * n]];
}

function sizesOf(cell: Cell, inputs: readonly (Value | null)[], attrs: RecurrentAttrs): Sizes {
  const { name } = cell;
  const x = inputType(name, inputs, 0, FLOATS).shape;
  const r = inputType(name, inputs, 2, FLOATS).shape;
  if (x.length !== 3 || r.length !== 3) throw new HeddleError("bad-model", `${name}: x is (${x}), r is (${r}), wanted three axes each`);
  if (!["forward", "reverse", "bidirectional"].includes(attrs.direction))
    throw new HeddleError("bad-model", `${name}: direction is ${attrs.direction}, wanted forward, reverse or bidirectional`);
  const [steps, batch] = attrs.layout ? [x[1], x[0]] : [x[0], x[1]];
  const hidden = attrs.hidden_size ?? r[2];
  const sizes = { steps, batch, input: x[2], hidden, directions: attrs.direction === "bidirectional" ? 2 : 1 };
  for (const [i, shape] of wantedShapes(cell, sizes, attrs.layout !== 0).entries()) {
    const given = inputs[i + 1]?.type.shape;
    if (given ? given.join() !== shape.join() : i < 2)
      throw new HeddleError(
        "bad-model",
        `${name}: input ${i + 1} is (${given ?? ""}), wanted (${shape}) for x (${x}) and ${hidden} hidden units`,
      );
  }
  return sizes;
}

const sliceOf = (t: TensorData | null | undefined, d: number, size: number): Float64Array | null =>
  t ? toNumbers(t).subarray(d * size, (d + 1) * size) : null;

/** w · x + biases of the input: (gates · hidden) for one step of one batch element. */
function inputProducts(x: Float64Array, at: number, w: Float64Array, bias: Float64Array, width: number): Float64Array {
  return bias.map((b, row) => {
    let sum = b;
    for (let k = 0; k < width; k++) sum += w[row * width + k] * x[at + k];
    return sum;
  });
}

interface Run {
  readonly y: Float64Array;
  readonly lastH: Float64Array;
  readonly lastC: Float64Array;
}

/** Runs direction d over all steps of all batch elements, and writes into the layer's outputs. */
function runDirection(cell: Cell, s: Sizes, inputs: readonly (TensorData | null)[], attrs: RecurrentAttrs, d: number, run: Run): void {
  const { hidden: n, batch, steps } = s;
  const rows = cell.gates * n;
  const [x, w, r, biases, lengths, h0, c0, p] = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => inputs[i]);
  const xs = toNumbers(x!); // checked by infer, as w and r are
  const isBatchFirst = attrs.layout !== 0;
  const bias = sliceOf(biases, d, 2 * rows) ?? new Float64Array(2 * rows);
  const weights = sliceOf(w, d, rows * s.input)!;
  const seqLengths = lengths ? toNumbers(lengths) : null;
  const isReverse = attrs.direction === "reverse" || d === 1;
  const f = activationsOf(cell.name, cell.activations, attrs, s.directions).slice(d * cell.activations.length);
  const shared = { hidden: n, r: sliceOf(r, d, rows * n)!, rBias: bias.subarray(rows), peepholes: sliceOf(p, d, 3 * n), f, attrs };
  for (let b = 0; b < batch; b++) {
    const state = isBatchFirst ? b * s.directions + d : d * batch + b; // row of (…, hidden)
    const h = sliceOf(h0, state, n)?.slice() ?? new Float64Array(n);
    const c = sliceOf(c0, state, n)?.slice() ?? new Float64Array(n);
    const length = Math.min(steps, seqLengths ? seqLengths[b] : steps);
    for (let i = 0; i < length; i++) {
      const t = isReverse ? length - 1 - i : i;
      const at = (isBatchFirst ? b * steps + t : t * batch + b) * s.input;
      cell.step({ ...shared, fromInput: inputProducts(xs, at, weights, bias.subarray(0, rows), s.input), h, c });
      const row = isBatchFirst ? (b * steps + t) * s.directions + d : (t * s.directions + d) * batch + b;
      run.y.set(h, row * n);
    }
    run.lastH.set(h, state * n);
    run.lastC.set(c, state * n);
  }
}

function outputTypes(cell: Cell, s: Sizes, dtype: DType, isBatchFirst: boolean): TensorType[] {
  const { directions: d, batch, hidden, steps } = s;
  const state = { dtype, shape: isBatchFirst ? [batch, d, hidden] : [d, batch, hidden] };
  const y = { dtype, shape: isBatchFirst ? [batch, steps, d, hidden] : [steps, d, batch, hidden] };
  return cell.hasCellState ? [y, state, state] : [y, state];
}

const ATTRS: Readonly<Record<keyof RecurrentAttrs, AttrSpec>> = {
  activations: { type: "strings", optional: true },
  activation_alpha: { type: "floats", optional: true },
  activation_beta: { type: "floats", optional: true },
  clip: { type: "float", optional: true },
  direction: { type: "string", default: "forward" },
  hidden_size: { type: "int", optional: true },
  layout: { type: "int", default: 0 },
  linear_before_reset: { type: "int", default: 0 },
  input_forget: { type: "int", default: 0 },
};

/** Longer sequences are run by the plain loop: so many steps written out are a large program. */
const MAX_UNROLLED = 512;
const isUnrolled = ({ steps, directions }: Sizes): boolean => steps > 0 && steps * directions <= MAX_UNROLLED;

/** What the layer and its plain loop have in common. */
function common(cell: Cell): Pick<Op<RecurrentAttrs>, "attrs" | "infer" | "flops" | "samples"> {
  const { name, gates: g } = cell;
  const w = (d: number, n: number, k: number) => [f32(d, g * n, k), f32(d, g * n, n)];
  return {
    attrs: ATTRS,
    infer(inputs, attrs) {
      const sizes = sizesOf(cell, inputs, attrs);
      const floats = inputs.flatMap((v, i) => (v && i !== 4 ? [inputType(name, inputs, i, FLOATS)] : []));
      if (inputs[4]) inputType(name, inputs, 4, ["i32"]);
      activationsOf(name, cell.activations, attrs, sizes.directions);
      return outputTypes(cell, sizes, sameDType(name, floats), attrs.layout !== 0);
    },
    flops(node) {
      const s = sizesOf(cell, node.inputs, node.attrs);
      return 2 * s.directions * s.steps * s.batch * g * s.hidden * (s.input + s.hidden);
    },
    samples: [
      { inputs: [f32(3, 2, 2), ...w(1, 3, 2), f32(1, 2 * g * 3)] },
      {
        inputs: [f32(3, 2, 2), ...w(2, 2, 2), f32(2, 2 * g * 2), tensorOf("i32", [3, 2]), f32(2, 2, 2)],
        attrs: { direction: "bidirectional", hidden_size: 2 },
      },
      { inputs: [f32(2, 3, 3), ...w(1, 2, 3)], attrs: { direction: "reverse", layout: 1, clip: 0.5 } },
      { inputs: [f32(2, 1, 2), ...w(1, 3, 2), f32(1, 2 * g * 3)], attrs: { linear_before_reset: 1 } },
    ],
  };
}

/** The layer as plain loops, for sequences that are too long to be written out, and to compare with. */
function loop(cell: Cell): Op {
  return defineOp<RecurrentAttrs>({
    ...common(cell),
    name: `${cell.name}Loop`,
    kind: "opaque",
    own: true,
    evaluate(inputs, node: Node<RecurrentAttrs>) {
      const s = sizesOf(cell, node.inputs, node.attrs);
      const [y, state] = node.outputs.map((o) => o.type.shape);
      const sizes = [elementCount(y), elementCount(state)];
      const run: Run = { y: new Float64Array(sizes[0]), lastH: new Float64Array(sizes[1]), lastC: new Float64Array(sizes[1]) };
      for (let d = 0; d < s.directions; d++) runDirection(cell, s, inputs, node.attrs, d, run);
      const results = [run.y, run.lastH, run.lastC];
      return node.outputs.map(({ type }, i) => fromNumbers(type.dtype, type.shape, results[i]));
    },
  });
}

function recurrent(cell: Cell, plain: Op): Op {
  const { name } = cell;
  const op: Op = defineOp<RecurrentAttrs>({
    ...common(cell),
    name,
    kind: "opaque",
    expand(inputs, attrs, node) {
      const sizes = sizesOf(cell, inputs, attrs);
      if (!isUnrolled(sizes)) return apply(plain, inputs, { ...attrs }, node.from);
      const kit = new Kit(builder(node.from), sizes, attrs);
      const lengths = inputs[4] ?? null;
      const made = directionsOf(kit, name, inputs, cell.activations).map((d) => unrolled(kit, name, d, lengths));
      return outputsOf(kit, made, lengths).slice(0, node.outputs.length);
    },
    vjp(context, node: Node<RecurrentAttrs>) {
      const sizes = sizesOf(cell, node.inputs, node.attrs);
      if (!isUnrolled(sizes)) return undefined;
      return recurrentGradient(context, name, node.inputs, node.attrs, sizes, cell.activations);
    },
    // Up to opset 6 the attribute output_sequence said that y is wanted.
    importOnnx: ({ emit, inputs, attrs: { output_sequence: _, ...attrs } }) => emit(op as unknown as Op<never>, inputs, attrs),
  });
  return op;
}

export const rnnOps: readonly Op[] = CELLS.flatMap((cell) => {
  const plain = loop(cell);
  return [recurrent(cell, plain), plain];
});
