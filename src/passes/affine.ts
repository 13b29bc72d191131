// Elementwise steps with constants seen as y = scale·x + shift, with one scale and one shift a channel.
import type { Node, Value } from "../ir/graph.ts";
import { constantOf } from "../ops/source.ts";
import { alongAxis, sameShape } from "./match.ts";

export interface Affine {
  readonly scale: Float64Array;
  readonly shift: Float64Array;
}

/** Scale and shift from the constant c, which is input number `side`; undefined: the operator is no such step. */
const STEPS: Readonly<Record<string, (c: number, side: number) => readonly [number, number] | undefined>> = {
  Add: (c) => [1, c],
  Sub: (c, side) => (side === 1 ? [1, -c] : [-1, c]),
  Mul: (c) => [c, 0],
  Div: (c, side) => (side === 1 ? [1 / c, 0] : undefined),
};

/** The step that a node does to the value it reads as `input(side)`, with the other input constant along `axis`; null: it is none. */
export function affineStep(node: Node, axis: number): { readonly x: Value; readonly side: number; readonly step: Affine } | null {
  const rule = STEPS[node.op.name];
  if (!rule) return null;
  for (const side of [1, 0]) {
    const tensor = constantOf(node.inputs[side]);
    const x = node.inputs[1 - side];
    if (!tensor || !x || constantOf(x) || !sameShape(x.type.shape, node.outputs[0].type.shape)) continue;
    const at = axis < 0 ? axis + x.type.shape.length : axis;
    const numbers = alongAxis(tensor, x.type.shape, at);
    const pairs = numbers && [...numbers].map((c) => rule(c, side));
    if (!pairs?.every((p) => p && Number.isFinite(p[0]) && Number.isFinite(p[1]))) continue;
    const list = pairs as readonly (readonly [number, number])[]; // every one was checked
    return { x, side: 1 - side, step: { scale: Float64Array.from(list, (p) => p[0]), shift: Float64Array.from(list, (p) => p[1]) } };
  }
  return null;
}

export const identityAffine = (channels: number): Affine => ({
  scale: new Float64Array(channels).fill(1),
  shift: new Float64Array(channels),
});

/** First `inner`, then `outer`. */
export const compose = (outer: Affine, inner: Affine): Affine => ({
  scale: inner.scale.map((s, i) => s * outer.scale[i]),
  shift: inner.shift.map((s, i) => s * outer.scale[i] + outer.shift[i]),
});
