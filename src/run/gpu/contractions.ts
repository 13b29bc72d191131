// Products, convolutions and their gradients as expressions of one element: right for every shape, and the reference for the kernels written for speed.
import { both, call, cast, constant, type Expr, reduce, select, within } from "../../ir/expr.ts";
import type { Node, Reader } from "../../ir/graph.ts";
import { addIndex, clampIndex, constIndex, divIndex, type Index, modIndex, mulIndex, newVar, varIndex } from "../../ir/index_expr.ts";
import type { Layout, Slide } from "../../ir/slide.ts";
import { type ConvGeometry, convGeometry } from "../../ops/conv.ts";
import { convTransposeGeometry } from "../../ops/conv_transpose.ts";
import { convWeightGradGeometry } from "../../ops/conv_weight_grad.ts";
import { matMulGeometry } from "../../ops/matmul.ts";

/** Readers of a node's outputs from those of its inputs. */
export type ExpressionOf = (inputs: readonly (Reader | null)[], node: Node) => readonly Reader[];

/** The element of a tensor that broadcasts to where `index` is. */
export function broadcastAt({ type, at }: Reader, index: readonly Index[]): Expr {
  const skip = index.length - type.shape.length;
  return at(type.shape.map((d, i) => (d === 1 ? constIndex(0) : index[skip + i])));
}

const only = (node: Node, at: Reader["at"]): readonly Reader[] => [{ type: node.outputs[0].type, at }];
/** Sums are float32 at least. */
export const wide = (e: Expr): Expr => (e.dtype === "f16" || e.dtype === "bf16" ? cast("f32", e) : e);
const times = (a: Expr, b: Expr): Expr => call("mul", wide(a), wide(b));

export const matMul: ExpressionOf = ([a, b], node) => {
  const { k, batchA, batchB, batch } = matMulGeometry(node);
  const [left, right] = [a!, b!]; // checked by infer
  const isRow = left.type.shape.length === 1;
  const isColumn = right.type.shape.length === 1;
  const own = (outer: readonly Index[], shape: readonly number[]): Index[] =>
    shape.map((d, i) => (d === 1 ? constIndex(0) : outer[batch.length - shape.length + i]));
  const { dtype } = node.outputs[0].type;
  return only(node, (index) => {
    const p = newVar(k);
    const outer = index.slice(0, batch.length);
    const rest = index.slice(batch.length);
    const row = isRow ? [] : [rest[0]];
    const column = isColumn ? [] : [rest[rest.length - 1]];
    const x = left.at([...own(outer, batchA), ...row, varIndex(p)]);
    const y = right.at([...own(outer, batchB), varIndex(p), ...column]);
    return cast(dtype, reduce("add", [p], times(x, y)));
  });
};

/** An index of data from batch, channel and spatial position. */
const dataIndex = (layout: Layout, batch: Index, channel: Index, spatial: readonly Index[]): Index[] =>
  layout === "NCHW" ? [batch, channel, ...spatial] : [batch, ...spatial, channel];
function splitIndex(layout: Layout, index: readonly Index[]): { batch: Index; channel: Index; spatial: readonly Index[] } {
  const last = index.length - 1;
  return layout === "NCHW"
    ? { batch: index[0], channel: index[1], spatial: index.slice(2) }
    : { batch: index[0], channel: index[last], spatial: index.slice(1, last) };
}

/** Where tap `tap` of the window at `position` reads, and whether that is inside. */
export function tapAt(s: Slide, position: readonly Index[], tap: readonly Index[]): { at: Index[]; isInside: Expr } {
  const at = position.map((o, i) => addIndex(addIndex(mulIndex(o, s.strides[i]), mulIndex(tap[i], s.dilations[i])), -s.padsBegin[i]));
  const isInside = at.map((q, i) => within(q, 0, s.input[i])).reduce(both, constant("bool", 1));
  return { at: at.map((q, i) => clampIndex(q, 0, s.input[i] - 1)), isInside };
}

const zeroOf = (e: Expr): Expr => constant(e.dtype, 0);
const orZero = (isInside: Expr, e: Expr): Expr => (isInside.k === "const" && isInside.value ? e : select(isInside, e, zeroOf(e)));

/** Channel c of the group that channel m of the output belongs to. */
const inGroup = ({ group, outChannels, inChannels }: ConvGeometry, m: Index, c: Index): Index =>
  group === 1 ? c : addIndex(mulIndex(divIndex(m, outChannels / group), inChannels / group), c);

export const conv: ExpressionOf = ([x, w, bias], node) => {
  const g = convGeometry(node);
  const { dtype } = node.outputs[0].type;
  return only(node, (index) => {
    const { batch, channel, spatial } = splitIndex(g.layout, index);
    const taps = g.kernel.map(newVar);
    const c = newVar(g.inChannels / g.group);
    const tap = taps.map(varIndex);
    const { at, isInside } = tapAt(g, spatial, tap);
    const value = x!.at(dataIndex(g.layout, batch, inGroup(g, channel, varIndex(c)), at));
    const weight = w!.at([channel, varIndex(c), ...tap]);
    const sum = reduce("add", [...taps, c], orZero(isInside, times(value, weight)));
    return cast(dtype, bias ? call("add", sum, wide(bias.at([channel]))) : sum);
  });
};

/** What a window at q = (o + pad − tap·dilation) / stride spreads to o. */
export const convTranspose: ExpressionOf = ([x, w, bias], node) => {
  const g = convTransposeGeometry(node);
  const perGroup = g.outChannels / g.group;
  const { dtype } = node.outputs[0].type;
  return only(node, (index) => {
    const { batch, channel, spatial } = splitIndex(g.layout, index);
    const taps = g.kernel.map(newVar);
    const c = newVar(g.inChannels / g.group);
    const from = spatial.map((o, i) => addIndex(addIndex(o, g.padsBegin[i]), mulIndex(varIndex(taps[i]), -g.dilations[i])));
    const places = from.map((t, i) => divIndex(t, g.strides[i]));
    const isInside = from
      .map((t, i) => both(within(modIndex(t, g.strides[i]), 0, 1), within(places[i], 0, g.input[i])))
      .reduce(both, constant("bool", 1));
    const own = inGroup(g, channel, varIndex(c));
    const value = x!.at(dataIndex(g.layout, batch, own, places.map((q, i) => clampIndex(q, 0, g.input[i] - 1)))); // biome-ignore format: short
    const weight = w!.at([own, modIndex(channel, perGroup), ...taps.map(varIndex)]);
    const sum = reduce("add", [...taps, c], orZero(isInside, times(value, weight)));
    return cast(dtype, bias ? call("add", sum, wide(bias.at([channel]))) : sum);
  });
};

/** Sums over batch and positions of what tap k of the window saw times the output's gradient. */
export const convWeightGrad: ExpressionOf = ([x, dy], node) => {
  const g = convWeightGradGeometry(node);
  const { dtype } = node.outputs[0].type;
  return only(node, ([m, c, ...tap]) => {
    const n = newVar(g.batch);
    const position = g.output.map(newVar);
    const { at, isInside } = tapAt(g, position.map(varIndex), tap);
    const value = x!.at(dataIndex(g.layout, varIndex(n), inGroup(g, m, c), at));
    const grad = dy!.at(dataIndex(g.layout, varIndex(n), m, position.map(varIndex)));
    return cast(dtype, reduce("add", [n, ...position], orZero(isInside, times(value, grad))));
  });
};
