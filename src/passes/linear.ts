// What an affine step before or after a Conv, ConvTranspose or MatMul does to its constant weights and bias.
import { makeNode, type Node, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { convGeometry } from "../ops/conv.ts";
import { OPS } from "../ops/index.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { type Affine, hasShift } from "./affine.ts";

/** A node that multiplies by constant weights (first axis, second axis, taps…). */
export interface Linear {
  readonly node: Node;
  readonly weights: TensorData;
  readonly bias: TensorData | null;
  /** Axis of the channels in the data input and in the output. */
  readonly inAxis: number;
  readonly outAxis: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** Channels of the input and of the output that the weights at [a][b] connect: b of one of them follow each other, the other stays. */
  inOf(a: number): number;
  outOf(a: number): number;
  readonly walks: "in" | "out";
  /** A sum before it may be folded: all outputs see all taps. */
  readonly seesAll: boolean;
  readonly hasBias: boolean;
}

const channelAxis = (node: Node): number =>
  (node.attrs as { layout?: string }).layout === "NHWC" ? node.outputs[0].type.shape.length - 1 : 1;

/** The node as a linear step, or null: another operator, or weights that are not constant. */
export function linearOf(node: Node): Linear | null {
  const weights = constantOf(node.inputs[1]);
  const bias = node.inputs[2] ? constantOf(node.inputs[2]) : null;
  if (!weights || bias === undefined) return null;
  const [a, b] = weights.shape;
  const common = { node, weights, bias };
  switch (node.op.name) {
    case "Conv": {
      const { group, padsBegin, padsEnd } = convGeometry(node);
      const perGroup = a / group;
      const seesAll = [...padsBegin, ...padsEnd].every((p) => p === 0);
      const sizes = { inAxis: channelAxis(node), outAxis: channelAxis(node), inChannels: b * group, outChannels: a };
      return { ...common, ...sizes, inOf: (m) => Math.floor(m / perGroup) * b, outOf: (m) => m, walks: "in", seesAll, hasBias: true };
    }
    case "ConvTranspose": {
      const { group } = node.attrs as unknown as { group: number };
      const perGroup = a / group;
      const sizes = { inAxis: channelAxis(node), outAxis: channelAxis(node), inChannels: a, outChannels: b * group };
      return {
        ...common,
        ...sizes,
        inOf: (c) => c,
        outOf: (c) => Math.floor(c / perGroup) * b,
        walks: "out",
        seesAll: false,
        hasBias: true,
      };
    }
    case "MatMul": {
      if (weights.shape.length !== 2 || node.inputs[0]!.type.shape.length < 2) return null;
      const sizes = { inAxis: -1, outAxis: -1, inChannels: a, outChannels: b };
      return { ...common, ...sizes, inOf: (k) => k, outOf: () => 0, walks: "out", seesAll: true, hasBias: false };
    }
    default:
      return null;
  }
}

/** The node with `before` and `after` in its weights and bias; MatMul, which has no bias, gets a sum after it. */
export function foldedLinear(linear: Linear, x: Value, before: Affine, after: Affine): Value {
  const { node, weights } = linear;
  const newWeights = constantValue(scaleWeights(linear, before, after), node.inputs[1]!.node.from);
  const bias = shiftBias(linear, before, after);
  const newBias = bias && constantValue(fromNumbers(weights.dtype, [bias.length], bias), node.from);
  const inputs = linear.hasBias && newBias ? [x, newWeights, newBias] : [x, newWeights];
  const types = node.outputs.map((o) => o.type);
  const [y] = makeNode(node.op, inputs, node.attrs, types, node.from).outputs;
  return linear.hasBias || !newBias ? y : makeNode(OPS.get("Add")!, [y, newBias], {}, types, node.from).outputs[0];
}

/** after.scale · (bias + what the shift before adds) + after.shift; null: zero. */
function shiftBias(linear: Linear, before: Affine, after: Affine): Float64Array | null {
  const bias = hasShift(before) ? shiftSums(linear, before.shift) : new Float64Array(linear.outChannels);
  const old = linear.bias && toNumbers(linear.bias);
  let isZero = true;
  for (let m = 0; m < bias.length; m++) {
    bias[m] = after.scale[m] * (bias[m] + (old ? old[m] : 0)) + after.shift[m];
    isZero &&= bias[m] === 0;
  }
  return isZero ? null : bias;
}

/** What a shift of each input channel adds to each output channel, where all taps see it. */
function shiftSums({ weights, inOf, outOf, outChannels, walks }: Linear, shift: Float64Array): Float64Array {
  const [outer, inner] = weights.shape;
  const taps = elementCount(weights.shape.slice(2));
  const values = weights.dtype === "f32" ? (weights.data as Float32Array) : toNumbers(weights); // f32 is stored so
  const sums = new Float64Array(outChannels);
  for (let a = 0; a < outer; a++) {
    const [i, o] = [inOf(a), outOf(a)];
    if (walks === "in") sums[o] += weightedSum(values, a * inner * taps, taps, shift, i, inner);
    else for (let b = 0; b < inner; b++) sums[o + b] += shift[i] * sumOf(values, (a * inner + b) * taps, taps);
  }
  return sums;
}

/** Σ of `count` channels of `taps` weights each, from `at` on, times the shifts from `first` on. */
function weightedSum(
  weights: Float32Array | Float64Array,
  at: number,
  taps: number,
  shift: Float64Array,
  first: number,
  count: number,
): number {
  let sum = 0;
  let k = at;
  for (let b = 0; b < count; b++) {
    const f = shift[first + b];
    for (const end = k + taps; k < end; k++) sum += weights[k] * f;
  }
  return sum;
}

/** Weights times the scale of their input channel and the scale of their output channel. */
function scaleWeights({ weights, inOf, outOf, walks }: Linear, before: Affine, after: Affine): TensorData {
  if (isUniform(before.scale) && isUniform(after.scale) && before.scale[0] * after.scale[0] === 1) return weights;
  const [outer, inner] = weights.shape;
  const taps = elementCount(weights.shape.slice(2));
  const result = weights.dtype === "f32" ? (weights.data as Float32Array).slice() : toNumbers(weights); // f32 is stored so
  // One of the two scales stays along b.
  const walking = walks === "in" ? before.scale : after.scale;
  for (let a = 0; a < outer; a++) {
    const [i, o] = [inOf(a), outOf(a)];
    const at = a * inner * taps;
    const factor = walks === "in" ? after.scale[o] : before.scale[i];
    scaleRow(result, at, taps, walking, walks === "in" ? i : o, inner, factor);
  }
  return result instanceof Float32Array ? { ...weights, data: result } : fromNumbers(weights.dtype, weights.shape, result);
}

const isUniform = (scale: Float64Array): boolean => scale.every((v) => v === scale[0]);

/** `count` channels of `taps` weights each, from `at` on, times factor and the scales from `first` on. */
function scaleRow(
  weights: Float32Array | Float64Array,
  at: number,
  taps: number,
  scale: Float64Array,
  first: number,
  count: number,
  factor: number,
): void {
  let k = at;
  for (let b = 0; b < count; b++) {
    const f = scale[first + b] * factor;
    for (const end = k + taps; k < end; k++) weights[k] *= f;
  }
}

function sumOf(values: Float32Array | Float64Array, from: number, count: number): number {
  let sum = 0;
  for (let i = from; i < from + count; i++) sum += values[i];
  return sum;
}
