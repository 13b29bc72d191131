// Elementwise steps with constants, one number a channel, gathered into y = scale·x + shift.
import type { Node, Value } from "../ir/graph.ts";
import { type TensorData, toNumbers } from "../ir/tensor.ts";
import { constantOf } from "../ops/source.ts";
import { isAlongAxis, sameShape } from "./match.ts";

/** Scale and shift: one number for all channels, or one for each. */
export interface Affine {
  readonly scale: Float64Array;
  readonly shift: Float64Array;
}

/** x · c or x + c; c has one element, or one a channel. */
export interface AffineStep {
  readonly kind: "mul" | "add";
  readonly c: Float64Array;
  readonly x: Value;
  /** Number of the input that x is. */
  readonly side: number;
}

/** How the constant enters, by operator, when it is the second input; `of`: not as it is. */
const STEPS: Readonly<Record<string, { readonly kind: "mul" | "add"; readonly commutes: boolean; of?(c: number): number }>> = {
  Add: { kind: "add", commutes: true },
  Sub: { kind: "add", commutes: false, of: (c) => -c },
  Mul: { kind: "mul", commutes: true },
  Div: { kind: "mul", commutes: false, of: (c) => 1 / c },
};

/** The step that a node is, with a constant that varies at most along `axis`; null: it is none. */
export function affineStep(node: Node, axis: number): AffineStep | null {
  const rule = STEPS[node.op.name];
  if (!rule) return null;
  for (let side = 0; side < (rule.commutes ? 2 : 1); side++) {
    const x = node.inputs[side];
    const tensor = constantOf(node.inputs[1 - side]);
    if (!tensor || !x || constantOf(x) || !sameShape(x.type.shape, node.outputs[0].type.shape)) continue;
    const at = axis < 0 ? axis + x.type.shape.length : axis;
    const c = isAlongAxis(tensor, x.type.shape, at) ? finite(tensor, rule.of) : null;
    if (c) return { kind: rule.kind, c, x, side };
  }
  return null;
}

function finite(tensor: TensorData, of: ((c: number) => number) | undefined): Float64Array | null {
  const numbers = toNumbers(tensor);
  const c = of ? numbers.map(of) : numbers;
  return c.every(Number.isFinite) ? c : null; // without a function of our own, which would be slow before it is compiled
}

/** The number for channel i. */
export const channel = (numbers: Float64Array, i: number): number => numbers[numbers.length === 1 ? 0 : i];

/** Changes nothing. */
export const IDENTITY: Affine = { scale: Float64Array.of(1), shift: Float64Array.of(0) };

/** `step` after all that `affine` does so far. */
export const thenStep = ({ scale, shift }: Affine, { kind, c }: AffineStep): Affine =>
  kind === "mul" ? { scale: times(scale, c), shift: times(shift, c) } : { scale, shift: plus(shift, c) };

/** `step` before all that `affine` does so far. */
export const firstStep = ({ scale, shift }: Affine, { kind, c }: AffineStep): Affine =>
  kind === "mul" ? { scale: times(scale, c), shift } : { scale, shift: plus(shift, times(scale, c)) };

/** Products element by element; one number stands for all. */
export function times(a: Float64Array, b: Float64Array): Float64Array {
  if (a.length < b.length) return times(b, a);
  if (b.length === 1 && b[0] === 1) return a;
  const out = new Float64Array(a);
  if (b.length === 1) for (let i = 0, c = b[0]; i < out.length; i++) out[i] *= c;
  else for (let i = 0; i < out.length; i++) out[i] *= b[i];
  return out;
}

/** Sums, likewise. */
export function plus(a: Float64Array, b: Float64Array): Float64Array {
  if (a.length < b.length) return plus(b, a);
  if (b.length === 1 && b[0] === 0) return a;
  const out = new Float64Array(a);
  if (b.length === 1) for (let i = 0, c = b[0]; i < out.length; i++) out[i] += c;
  else for (let i = 0; i < out.length; i++) out[i] += b[i];
  return out;
}
