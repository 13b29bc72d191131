// Reshape and Transpose as algebra: builds them so that chains collapse, axes of size 1 move for free, and a Reshape goes before a Transpose where it can.
import { apply, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type Shape } from "../ir/tensor.ts";
import { OPS } from "../ops/index.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { madeBy, sameShape } from "./match.ts";

const op = (name: string): Op => OPS.get(name)!; // both are in the table

/** A constant list of whole numbers. */
export const intsValue = (values: readonly number[], from: string): Value =>
  constantValue(fromNumbers("i64", [values.length], values), from);

/** x under another shape. */
export function reshaped(x: Value, shape: Shape, from: string): Value {
  if (sameShape(x.type.shape, shape)) return x;
  const tensor = constantOf(x);
  if (tensor) return constantValue({ ...tensor, shape }, from);
  const inner = madeBy(x, "Reshape");
  if (inner) return reshaped(inner.inputs[0]!, shape, from);
  const turned = madeBy(x, "Transpose");
  const pushed = turned && pushReshape(turned.inputs[0]!, permOf(turned.attrs, x.type.shape.length), shape);
  if (pushed) return transposed(reshaped(turned.inputs[0]!, pushed.shape, from), pushed.perm, from);
  return apply(op("Reshape"), [x, intsValue(shape, from)], { allowzero: 1 }, from)[0];
}

/** x with axis i taken from axis perm[i]. */
export function transposed(x: Value, perm: readonly number[], from: string): Value {
  if (perm.every((axis, i) => axis === i)) return x;
  const { shape } = x.type;
  const moved = perm.filter((axis) => shape[axis] !== 1);
  if (moved.every((axis, i) => i === 0 || axis > moved[i - 1])) return reshaped(x, perm.map((axis) => shape[axis]), from); // biome-ignore format: short
  const inner = madeBy(x, "Transpose");
  if (inner) {
    const first = permOf(inner.attrs, shape.length);
    return transposed(inner.inputs[0]!, perm.map((axis) => first[axis]), from); // biome-ignore format: short
  }
  return apply(op("Transpose"), [x], { perm }, from)[0];
}

/** The permutation of a Transpose; without one it turns all axes around. */
export const permOf = (attrs: object, rank: number): readonly number[] =>
  (attrs as { perm?: readonly number[] }).perm ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);

export const inversePerm = (perm: readonly number[]): number[] => perm.map((_, i) => perm.indexOf(i));

/** Axes of two shapes that hold the same elements, as few of each as can be. */
interface Block {
  readonly from: number[];
  readonly to: number[];
}

/** Splits two shapes of equally many elements (not zero) into matching runs of axes. */
function matchAxes(from: Shape, to: Shape): Block[] {
  const blocks: Block[] = [];
  let [i, j] = [0, 0];
  while (i < from.length && j < to.length) {
    const block: Block = { from: [i], to: [j] };
    let [a, b] = [from[i++], to[j++]];
    while (a !== b) {
      if (a < b) {
        a *= from[i];
        block.from.push(i++);
      } else {
        b *= to[j];
        block.to.push(j++);
      }
    }
    blocks.push(block);
  }
  // What is left has size 1.
  const last = blocks.at(-1) ?? { from: [], to: [] };
  if (blocks.length === 0) blocks.push(last);
  while (i < from.length) last.from.push(i++);
  while (j < to.length) last.to.push(j++);
  return blocks;
}

/** Reshape(Transpose(x, perm), shape) as Transpose(Reshape(x, result.shape), result.perm), or null where axes of one block lie apart in x. */
function pushReshape(x: Value, perm: readonly number[], shape: Shape): { shape: number[]; perm: number[] } | null {
  const source = x.type.shape;
  if (elementCount(source) === 0) return null;
  const turned = perm.map((axis) => source[axis]);
  const placed = matchAxes(turned, shape).map(({ from, to }) => ({
    axes: from.map((i) => perm[i]).filter((axis) => source[axis] !== 1),
    to,
  }));
  const isOneRun = (axes: readonly number[]) =>
    axes.every((axis, i) => i === 0 || (axis > axes[i - 1] && source.slice(axes[i - 1] + 1, axis).every((d) => d === 1)));
  if (!placed.every(({ axes }) => isOneRun(axes))) return null;
  const sorted = placed.toSorted((a, b) => (a.axes[0] ?? -1) - (b.axes[0] ?? -1)).flatMap(({ to }) => to);
  return { shape: sorted.map((axis) => shape[axis]), perm: shape.map((_, axis) => sorted.indexOf(axis)) };
}
