// What an affine step before or after a Conv, ConvTranspose or MatMul does to its constant weights and bias.
import { makeNode, type Node, type Value } from "../ir/graph.ts";
import { fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { convGeometry } from "../ops/conv.ts";
import { OPS } from "../ops/index.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { type Affine, plus, times } from "./affine.ts";
import { foldedWeights } from "./weights.ts";

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
  const { node } = linear;
  const { weights, sums } = foldedWeights(linear, before, after);
  const newWeights = constantValue(weights, node.inputs[1]!.node.from);
  const bias = foldedBias(linear, sums, after);
  const newBias = bias && constantValue(fromNumbers(weights.dtype, [bias.length], bias), node.from);
  const inputs = linear.hasBias && newBias ? [x, newWeights, newBias] : [x, newWeights];
  const types = node.outputs.map((o) => o.type);
  const [y] = makeNode(node.op, inputs, node.attrs, types, node.from).outputs;
  return linear.hasBias || !newBias ? y : makeNode(OPS.get("Add")!, [y, newBias], {}, types, node.from).outputs[0];
}

/** after.scale · (bias + what the shift before adds) + after.shift; null: zero. */
function foldedBias({ bias }: Linear, sums: Float64Array, { scale, shift }: Affine): Float64Array | null {
  const result = plus(times(bias ? plus(toNumbers(bias), sums) : sums, scale), shift);
  return result.some((v) => v !== 0) ? result : null;
}
