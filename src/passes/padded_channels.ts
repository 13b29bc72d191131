// Channels of 16-bit convolutions become multiples of 8, which matrix units and their libraries want: weights get zeros, and what is computed keeps them until something else reads it.
import { apply, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, toNumber } from "../ir/tensor.ts";
import { evaluateNode } from "../ops/evaluate.ts";
import { OPS } from "../ops/index.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { madeBy } from "./match.ts";
import { intsValue } from "./view_algebra.ts";

const MULTIPLE = 8;
/** Images with so few channels in a block of the strides' size get these blocks as channels where they are convolved. */
const FOLDED = 32;
/** Smaller convolutions go to no library. */
const LEAST_PRODUCTS = 2 ** 27;
/** Nanoseconds that multiples of 8 save of an operation, where channels are odd, and even; of pointwise ones, which wait for memory. Measured on an H200. */
const SAVED = { odd: 4.6e-5, even: 0.64e-5, pointwise: 1e-5 };
/** Of a kernel, and bytes that it moves in one. */
const KERNEL = 1500;
const MOVED = 2500;

/** With more channels, and the number that is in those. */
interface Padded {
  readonly value: Value;
  readonly number: number;
}
/** Values, as slices of what they are made of, to that. */
type Carried = Map<Value, Padded>;

const whole = (count: number): number => Math.ceil(count / MULTIPLE) * MULTIPLE;

/** `isWorth`: of a convolution with the bytes that are moved for it besides. */
export const paddedChannels = (isWorth = savesTime): Pass => ({
  name: "paddedChannels",
  run(graph) {
    const carried: Carried = new Map();
    return rewriteGraph(graph, (node, inputs) =>
      node.op.name === "Conv" ? convolved(node, inputs, carried, isWorth) : mapped(node, inputs, carried),
    );
  },
});

interface ConvAttrs {
  readonly group: number;
  readonly layout: string;
  readonly strides?: readonly number[];
}

function convolved(
  node: Node,
  [x, w, bias]: readonly (Value | null)[],
  carried: Carried,
  isWorth: typeof savesTime,
): readonly Value[] | null {
  const { group, layout, strides = [] } = node.attrs as unknown as ConvAttrs;
  if (!x || !w || bias || group !== 1 || layout !== "NCHW" || (w.type.dtype !== "bf16" && w.type.dtype !== "f16")) return null;
  const [[, channels], [filters]] = [x.type.shape, w.type.shape];
  if (whole(channels) === channels && whole(filters) === filters) return null;
  if (channels * elementCount(strides) <= FOLDED) return null;
  const known = carried.get(x);
  const [{ shape }] = node.outputs.map((v) => v.type);
  const moved = (known ? 0 : bytesOf(x, whole(channels))) + (whole(filters) === filters ? 0 : bytesOf(node.outputs[0], whole(filters)));
  if (!isWorth(node, moved)) return null;
  const image = known?.value ?? padded(x, 1, whole(channels), node.from);
  const weights = padded(padded(w, 1, whole(channels), node.from), 0, whole(filters), node.from);
  const [sums] = apply(node.op, [image, weights], node.attrs, node.from);
  return [kept(sums, shape, 0, carried, node.from)];
}

/** Read as it is and written with more channels, or the other way round. */
const bytesOf = ({ type: { shape } }: Value, channels: number): number => 2 * (elementCount(shape) + elementCount(shape.with(1, channels)));

function savesTime(node: Node, moved: number): boolean {
  const [, w] = node.inputs as readonly [Value, Value]; // convolved has seen both
  const operations = node.op.flops!(node as never); // Conv counts its own
  if (operations < 2 * LEAST_PRODUCTS) return false;
  const isOdd = w.type.shape.slice(0, 2).some((d) => d % 2 === 1);
  const saved = elementCount(w.type.shape.slice(2)) === 1 ? SAVED.pointwise : isOdd ? SAVED.odd : SAVED.even;
  return saved * operations > (moved > 0 ? KERNEL : 0) + moved / MOVED;
}

/** Zeros behind the elements of an axis. */
function padded(x: Value, axis: number, size: number, from: string): Value {
  const more = size - x.type.shape[axis];
  if (more === 0) return x;
  const pads = [0, more].flatMap((count) => x.type.shape.map((_, i) => (i === axis ? count : 0)));
  return apply(OPS.get("Pad")!, [x, intsValue(pads, from)], {}, from)[0]; // in the table
}

/** The part of `value` that there was, which stands for all of it to those that can take it so. */
function kept(value: Value, shape: readonly number[], number: number, carried: Carried, from: string): Value {
  if (value.type.shape[1] === shape[1]) return value;
  const [slice] = apply(OPS.get("Slice")!, [value, intsValue([0], from), intsValue([shape[1]], from), intsValue([1], from)], {}, from);
  carried.set(slice, { value, number });
  return slice;
}

/** An elementwise node on padded inputs, where the padding of its result is a number that is known and harmless: not one times which zero is no zero. */
function mapped(node: Node, inputs: readonly (Value | null)[], carried: Carried): readonly Value[] | null {
  const { op, attrs, from } = node;
  const first = inputs.find((v) => v && carried.has(v));
  if (!first || op.kind !== "map" || "axis" in op.attrs || node.outputs.length !== 1) return null;
  const { shape } = node.outputs[0].type;
  if (shape.join() !== first.type.shape.join()) return null;
  const size = carried.get(first)!.value.type.shape[1]; // just found
  const all = inputs.map((v) => v && paddedInput(v, shape.length, size, carried, from));
  if (all.some((p, i) => inputs[i] && !p)) return null;
  const number = numberOf(node, all);
  if (!Number.isFinite(number)) return null;
  const [result] = apply(op, all.map((p) => p?.value ?? null), attrs, from); // biome-ignore format: short
  return [kept(result, shape, number, carried, from)];
}

/** Null: what it is in the channels behind is not known. */
function paddedInput(v: Value, rank: number, size: number, carried: Carried, from: string): Padded | null {
  const known = carried.get(v);
  if (known) return known.value.type.shape[1] === size ? known : null;
  const tensor = constantOf(v);
  if (tensor && elementCount(tensor.shape) === 1) return { value: v, number: toNumber(tensor, 0) };
  const axis = v.type.shape.length - rank + 1;
  const isColumn = axis >= 0 && v.type.shape.every((d, i) => d === 1 || i === axis);
  return isColumn && isKnown(v) ? { value: padded(v, axis, size, from), number: 0 } : null;
}

const isKnown = (v: Value): boolean => constantOf(v) !== undefined || [madeBy(v, "Reshape"), madeBy(v, "Cast")].some((n) => n?.inputs[0] && isKnown(n.inputs[0])); // biome-ignore format: short

/** What an elementwise node makes of these numbers. */
function numberOf({ op, attrs, from }: Node, inputs: readonly (Padded | null)[]): number {
  const scalars = inputs.map((p) => p && constantValue(fromNumbers(p.value.type.dtype, [], [p.number]), from));
  const [{ node }] = apply(op, scalars, attrs, from);
  return toNumber(evaluateNode(node, scalars.map((v) => constantOf(v) ?? null))[0], 0); // biome-ignore format: short
}
