// Recurrent layers written out step by step: input products of all steps as one, then for each step the products with the state and the gates.
import type { Builder, Value } from "../ir/graph.ts";
import { MatMul } from "./matmul.ts";
import type { RecurrentAttrs, Sizes } from "./rnn.ts";
import { type BuiltActivation, builtActivations } from "./rnn_activation.ts";

/** One direction of a layer, time first: x (T, B, in), w (rows, in), r (rows, hidden), state (B, hidden). */
export interface Direction {
  readonly x: Value;
  readonly w: Value;
  readonly r: Value;
  /** Of the input and of the recurrence: (rows). */
  readonly wBias: Value | null;
  readonly rBias: Value | null;
  readonly h0: Value;
  readonly c0: Value;
  /** Peephole weights (3 · hidden). */
  readonly peepholes: Value | null;
  readonly isReverse: boolean;
  readonly f: readonly BuiltActivation[];
}

/** What one step has computed; `fromState` is apart from `fromInput` where the reset gate comes between. */
export interface Step {
  readonly at: number;
  readonly before: State;
  readonly after: State;
  readonly fromInput: Value;
  readonly fromState: Value | null;
}
export interface State {
  readonly h: Value;
  readonly c: Value;
}

/** How a layer goes on by a step. */
export interface CellCode {
  /** Whether the biases of the recurrence can be added to the input's. */
  readonly addsBiases: (attrs: RecurrentAttrs) => boolean;
  step(k: Kit, d: Direction, fromInput: Value, before: State): Omit<Step, "at" | "before">;
}

/** What is written with: rows of gates, products, activations with clipping. */
export class Kit {
  constructor(
    readonly b: Builder,
    readonly sizes: Sizes,
    readonly attrs: RecurrentAttrs,
  ) {}

  op(name: string, ...inputs: readonly Value[]): Value {
    return this.b.op(name, inputs);
  }
  slice(x: Value, axis: number, from: number, to: number): Value {
    return this.b.op("Slice", [x, this.b.ints(from), this.b.ints(to), this.b.ints(axis)]);
  }
  /** Columns of gate number i, or of several. */
  gate(x: Value, i: number, count = 1): Value {
    const n = this.sizes.hidden;
    return this.slice(x, x.type.shape.length - 1, i * n, (i + count) * n);
  }
  /** a (…, k) · bᵀ (k, n). */
  product(a: Value, b: Value): Value {
    return this.b.op(MatMul, [a, this.b.transpose(b, [1, 0])]);
  }
  act(f: BuiltActivation, x: Value): Value {
    const { clip } = this.attrs;
    const limit = (v: number) => this.b.constant(x.type.dtype, v);
    return f(this.b, clip ? this.b.op("Clip", [x, limit(-clip), limit(clip)]) : x);
  }
  one(like: Value): Value {
    return this.b.constant(like.type.dtype, 1);
  }
}

const sumOf = (k: Kit, a: Value, b: Value | null): Value => (b ? k.op("Add", a, b) : a);

const rnn: CellCode = {
  addsBiases: () => true,
  step(k, { r, f }, fromInput, { h, c }) {
    return { after: { h: k.act(f[0], k.op("Add", k.product(h, r), fromInput)), c }, fromInput, fromState: null };
  },
};

const gru: CellCode = {
  addsBiases: ({ linear_before_reset }) => !linear_before_reset,
  step(k, { r, rBias, f }, fromInput, { h, c }) {
    const n = k.sizes.hidden;
    const isLinear = k.attrs.linear_before_reset !== 0;
    const rows = (from: number, to: number) => k.slice(r, 0, from * n, to * n);
    const fromState = sumOf(k, k.product(h, isLinear ? r : rows(0, 2)), rBias && isLinear ? rBias : null);
    const [z, reset] = [0, 1].map((i) => k.act(f[0], k.op("Add", k.gate(fromInput, i), k.gate(fromState, i))));
    const recurrent = isLinear ? k.op("Mul", reset, k.gate(fromState, 2)) : k.product(k.op("Mul", reset, h), rows(2, 3));
    const candidate = k.act(f[1], k.op("Add", k.gate(fromInput, 2), recurrent));
    const next = k.op("Add", candidate, k.op("Mul", z, k.op("Sub", h, candidate)));
    return { after: { h: next, c }, fromInput, fromState };
  },
};

const lstm: CellCode = {
  addsBiases: () => true,
  step(k, { r, f, peepholes }, fromInput, { h, c }) {
    const gates = k.op("Add", k.product(h, r), fromInput);
    const peep = (x: Value, i: number, cell: Value) => (peepholes ? k.op("Add", x, k.op("Mul", k.gate(peepholes, i), cell)) : x);
    const input = k.act(f[0], peep(k.gate(gates, 0), 0, c));
    const forget = k.attrs.input_forget ? k.op("Sub", k.one(input), input) : k.act(f[0], peep(k.gate(gates, 2), 2, c));
    const cell = k.op("Add", k.op("Mul", forget, c), k.op("Mul", input, k.act(f[1], k.gate(gates, 3))));
    const output = k.act(f[0], peep(k.gate(gates, 1), 1, cell));
    return { after: { h: k.op("Mul", output, f[2](k.b, cell)), c: cell }, fromInput: gates, fromState: null };
  },
};

export const CELL_CODES = { RNN: rnn, GRU: gru, LSTM: lstm } as const;
export type CellName = keyof typeof CELL_CODES;

/** The directions of a layer from the inputs of its node: x, w, r, biases, lengths, h, c, peepholes. */
export function directionsOf(k: Kit, name: CellName, inputs: readonly (Value | null)[], defaults: readonly string[]): Direction[] {
  const { b, sizes, attrs } = k;
  const [x, w, r, biases, , h0, c0, p] = inputs;
  const rows = w!.type.shape[1]; // checked by infer, as x and r are
  const f = builtActivations(name, defaults, attrs, sizes.directions);
  const zero = b.op("ConstantOfShape", [b.ints(sizes.batch, sizes.hidden)], { value: zeroOf(k, x!) });
  const of = (v: Value | null | undefined, d: number, axis = 0): Value | null =>
    v ? b.reshape(k.slice(v, axis, d, d + 1), v.type.shape.toSpliced(axis, 1)) : null;
  return Array.from({ length: sizes.directions }, (_, d) => {
    const bias = of(biases, d);
    const parts = bias ? [k.slice(bias, 0, 0, rows), k.slice(bias, 0, rows, 2 * rows)] : [null, null];
    const isTogether = CELL_CODES[name].addsBiases(attrs) && bias;
    return {
      x: attrs.layout ? b.transpose(x!, [1, 0, 2]) : x!,
      w: of(w, d)!,
      r: of(r, d)!,
      wBias: isTogether ? k.op("Add", parts[0]!, parts[1]!) : parts[0],
      rBias: isTogether ? null : parts[1],
      h0: of(h0, d, attrs.layout ? 1 : 0) ?? zero,
      c0: of(c0, d, attrs.layout ? 1 : 0) ?? zero,
      peepholes: of(p, d),
      isReverse: attrs.direction === "reverse" || d === 1,
      f: f.slice(d * defaults.length, (d + 1) * defaults.length),
    };
  });
}

const zeroOf = (k: Kit, like: Value): object => k.b.constant(like.type.dtype, [0]).node.attrs.value as object; // a constant's

/** All steps of a direction, in the order in which they are made. */
export function unrolled(k: Kit, name: CellName, d: Direction, lengths: Value | null): Step[] {
  const { b, sizes } = k;
  const { steps, batch, input } = sizes;
  const products = sumOf(k, k.product(b.reshape(d.x, [steps * batch, input]), d.w), d.wBias);
  const made: Step[] = [];
  let state: State = { h: d.h0, c: d.c0 };
  for (let i = 0; i < steps; i++) {
    const at = d.isReverse ? steps - 1 - i : i;
    const step = CELL_CODES[name].step(k, d, k.slice(products, 0, at * batch, (at + 1) * batch), state);
    const after = lengths ? kept(k, at, lengths, step.after, state) : step.after;
    made.push({ ...step, at, before: state, after });
    state = after;
  }
  return made;
}

/** The new state where the sequence goes on at this step, else the old one. */
function kept(k: Kit, at: number, lengths: Value, next: State, old: State): State {
  const goesOn = goesOnAt(k, at, lengths);
  return { h: k.op("Where", goesOn, next.h, old.h), c: k.op("Where", goesOn, next.c, old.c) };
}

/** (B, 1) booleans. */
const goesOnAt = (k: Kit, at: number, lengths: Value): Value =>
  k.op("Greater", k.b.reshape(lengths, [k.sizes.batch, 1]), k.b.constant("i32", at));

/** An operator reads no more tensors than this at once. */
const MAX_JOINED = 32;

export function joined(b: Builder, parts: readonly Value[], axis: number): Value {
  let list = parts;
  while (list.length > 1) {
    const next: Value[] = [];
    for (let i = 0; i < list.length; i += MAX_JOINED) next.push(b.op("Concat", list.slice(i, i + MAX_JOINED), { axis }));
    list = next;
  }
  return list[0];
}

/** What the layer gives: all hidden states, the last ones, and the last cells. */
export function outputsOf(k: Kit, all: readonly (readonly Step[])[], lengths: Value | null): Value[] {
  const { b, sizes, attrs } = k;
  const { steps, batch, hidden } = sizes;
  const perDirection = all.map((made) => {
    const inOrder = made.toSorted((s, t) => s.at - t.at);
    const zero = b.constant(made[0].after.h.type.dtype, 0);
    const given = inOrder.map(({ at, after: { h } }) => (lengths ? k.op("Where", goesOnAt(k, at, lengths), h, zero) : h));
    return b.reshape(joined(b, given, 0), [steps, 1, batch, hidden]);
  });
  const last = (part: "h" | "c") => joined(b, all.map((made) => b.reshape(made[made.length - 1].after[part], [1, batch, hidden])), 0); // biome-ignore format: short
  const y = joined(b, perDirection, 1);
  if (!attrs.layout) return [y, last("h"), last("c")];
  return [b.transpose(y, [2, 0, 1, 3]), ...[last("h"), last("c")].map((s) => b.transpose(s, [1, 0, 2]))];
}
