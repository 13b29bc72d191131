// Elementwise steps with constants, one number a channel, gathered into y = scale·x + shift.
import type { Node, Value } from "../ir/graph.ts";
import { type TensorData, toNumbers } from "../ir/tensor.ts";
import { constantOf } from "../ops/source.ts";
import { isAlongAxis, sameShape } from "./match.ts";

/** Scale and shift of every channel; updated in place while steps are gathered. */
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

/** How the constant enters, by operator, when it is the second input. */
const STEPS: Readonly<Record<string, { readonly kind: "mul" | "add"; readonly commutes: boolean; of(c: number): number }>> = {
  Add: { kind: "add", commutes: true, of: (c) => c },
  Sub: { kind: "add", commutes: false, of: (c) => -c },
  Mul: { kind: "mul", commutes: true, of: (c) => c },
  Div: { kind: "mul", commutes: false, of: (c) => 1 / c },
};

/** The step that a node is, with a constant that varies at most along `axis`; null: it is none. */
export function affineStep(node: Node, axis: number): AffineStep | null {
  const rule = STEPS[node.op.name];
  if (!rule) return null;
  for (const side of rule.commutes ? [0, 1] : [0]) {
    const x = node.inputs[side];
    const tensor = constantOf(node.inputs[1 - side]);
    if (!tensor || !x || constantOf(x) || !sameShape(x.type.shape, node.outputs[0].type.shape)) continue;
    const at = axis < 0 ? axis + x.type.shape.length : axis;
    const c = isAlongAxis(tensor, x.type.shape, at) ? finite(tensor, rule.of) : null;
    if (c) return { kind: rule.kind, c, x, side };
  }
  return null;
}

function finite(tensor: TensorData, of: (c: number) => number): Float64Array | null {
  const c = toNumbers(tensor);
  for (let i = 0; i < c.length; i++) {
    c[i] = of(c[i]);
    if (!Number.isFinite(c[i])) return null;
  }
  return c;
}

export const identityAffine = (channels: number): Affine => ({
  scale: new Float64Array(channels).fill(1),
  shift: new Float64Array(channels),
});

/** Does `step` after what `affine` did so far. */
export function thenStep({ scale, shift }: Affine, { kind, c }: AffineStep): void {
  for (let i = 0; i < scale.length; i++) {
    const v = c.length === 1 ? c[0] : c[i];
    if (kind === "mul") scale[i] *= v;
    shift[i] = kind === "mul" ? shift[i] * v : shift[i] + v;
  }
}

/** Does `step` before all that `affine` does so far. */
export function firstStep({ scale, shift }: Affine, { kind, c }: AffineStep): void {
  for (let i = 0; i < scale.length; i++) {
    const v = c.length === 1 ? c[0] : c[i];
    if (kind === "mul") scale[i] *= v;
    else shift[i] += scale[i] * v;
  }
}
